#!/usr/bin/env bash
# Every training of the WNE paper (Saied and Fleuret, ICML 2026), and its figures from the checkpoints.
#
#   scripts/reproduce_paper.sh [--dry-run] GROUP... [-- KEY=VALUE...]    train; GROUP: a word of the list below, or all
#   scripts/reproduce_paper.sh [--dry-run] figures NET.pth... [OPTION...] their curves and tables, in figures/
#   scripts/reproduce_paper.sh list                                      the list
#
# Prints each command before it runs. Killed or stopped, the same line goes on where it was. KEY=VALUE overrules the
# option files, for example datasets:train:dataroot_gt=photos. Runs go to experiments/ of the current folder, which has the
# images in datasets/ (datasets/README.md). figures makes mismatch curves and the NE defect over sigma 0 to 95 (Figure 9), to
# which the OPTIONs go, the analysis, and of two networks or more Tables 11 and 12; `figures uniform.pth --degradation jpeg`
# is the JPEG experiment.
set -euo pipefail

# groups | option file | overrides. Tables 2, 5 and 6 are timings: basicsr bench --table N. Table 3 needs no network.
# What was published leaves open which networks Table 12 (inpainting) takes: here those of Table 11. The group beyond is not
# in the paper.
list() {
  cat <<'END'
table1 fig2             | dncnn                      | name=dncnn_sigma10 datasets:train:noise:sigma255=10
table1 fig2             | dncnn                      | name=dncnn_sigma25 datasets:train:noise:sigma255=25
table1 fig2             | dncnn                      | name=dncnn_sigma50 datasets:train:noise:sigma255=50
table1 fig2             | dncnn_wne                  | name=dncnn_wne_sigma10 datasets:train:noise:sigma255=10
table1 fig2             | dncnn_wne                  | name=dncnn_wne_sigma25 datasets:train:noise:sigma255=25
table1 fig2             | dncnn_wne                  | name=dncnn_wne_sigma50 datasets:train:noise:sigma255=50
table1 table7 fig2      | fdncnn_scale_equiv         | name=fdncnn_scale_equiv_sigma10 datasets:train:noise:sigma255=10
table1 table7 fig2      | fdncnn_scale_equiv         | name=fdncnn_scale_equiv_sigma25 datasets:train:noise:sigma255=25
table1 table7 fig2      | fdncnn_scale_equiv         | name=fdncnn_scale_equiv_sigma50 datasets:train:noise:sigma255=50
table1 table7 fig2      | fdncnn_norm_equiv          | name=fdncnn_norm_equiv_sigma10 datasets:train:noise:sigma255=10
table1 table7 fig2      | fdncnn_norm_equiv          | name=fdncnn_norm_equiv_sigma25 datasets:train:noise:sigma255=25
table1 table7 fig2      | fdncnn_norm_equiv          | name=fdncnn_norm_equiv_sigma50 datasets:train:noise:sigma255=50
table1 fig2             | swinir                     | name=swinir_sigma10 datasets:train:noise:sigma255=10
table1 fig2             | swinir                     | name=swinir_sigma25 datasets:train:noise:sigma255=25
table1 fig2             | swinir                     | name=swinir_sigma50 datasets:train:noise:sigma255=50
table1 fig2             | swinir_wne                 | name=swinir_wne_sigma10 datasets:train:noise:sigma255=10
table1 fig2             | swinir_wne                 | name=swinir_wne_sigma25 datasets:train:noise:sigma255=25
table1 fig2             | swinir_wne                 | name=swinir_wne_sigma50 datasets:train:noise:sigma255=50
table7                  | fdncnn                     | name=fdncnn_sigma10 datasets:train:noise:sigma255=10
table7                  | fdncnn                     | name=fdncnn_sigma25 datasets:train:noise:sigma255=25
table7                  | fdncnn                     | name=fdncnn_sigma50 datasets:train:noise:sigma255=50
table7                  | fdncnn_wne                 | name=fdncnn_wne_sigma10 datasets:train:noise:sigma255=10
table7                  | fdncnn_wne                 | name=fdncnn_wne_sigma25 datasets:train:noise:sigma255=25
table7                  | fdncnn_wne                 | name=fdncnn_wne_sigma50 datasets:train:noise:sigma255=50
table8                  | restormer                  | name=restormer_sigma10 datasets:train:noise:sigma255=10
table8                  | restormer                  | name=restormer_sigma25 datasets:train:noise:sigma255=25
table8                  | restormer                  | name=restormer_sigma50 datasets:train:noise:sigma255=50
table8                  | restormer_wne              | name=restormer_wne_sigma10 datasets:train:noise:sigma255=10
table8                  | restormer_wne              | name=restormer_wne_sigma25 datasets:train:noise:sigma255=25
table8                  | restormer_wne              | name=restormer_wne_sigma50 datasets:train:noise:sigma255=50
table9 colour           | restormer_colour           | name=restormer_colour_sigma10 datasets:train:noise:sigma255=10
table9 colour           | restormer_colour           | name=restormer_colour_sigma25 datasets:train:noise:sigma255=25
table9 colour           | restormer_colour           | name=restormer_colour_sigma50 datasets:train:noise:sigma255=50
table9 colour           | restormer_wne_colour       | name=restormer_wne_colour_sigma10 datasets:train:noise:sigma255=10
table9 colour           | restormer_wne_colour       | name=restormer_wne_colour_sigma25 datasets:train:noise:sigma255=25
table9 colour           | restormer_wne_colour       | name=restormer_wne_colour_sigma50 datasets:train:noise:sigma255=50
beyond colour           | swinir_colour              | name=swinir_colour
beyond colour           | swinir_wne_colour          | name=swinir_wne_colour
table10 sidd            | sidd_swinir                | name=sidd_swinir
table10 sidd            | sidd_swinir_wne            | name=sidd_swinir_wne
table11 table12 targets | swinir_noise2noise         | name=swinir_noise2noise
table11 table12 targets | swinir_wne_noise2noise     | name=swinir_wne_noise2noise
targets                 | swinir_soft_ne             | name=swinir_soft_ne
targets                 | swinir_multi_noise         | name=swinir_multi_noise
targets                 | swinir_wne_multi_noise     | name=swinir_wne_multi_noise
input_only              | dncnn_input_only           | name=dncnn_input_only
noises uniform jpeg     | dncnn_uniform              | name=dncnn_uniform
noises uniform jpeg     | dncnn_wne_uniform          | name=dncnn_wne_uniform
noises uniform jpeg     | fdncnn_scale_equiv_uniform | name=fdncnn_scale_equiv_uniform
noises uniform jpeg     | fdncnn_norm_equiv_uniform  | name=fdncnn_norm_equiv_uniform
noises uniform fig21    | swinir_uniform             | name=swinir_uniform
noises uniform fig21    | swinir_wne_uniform         | name=swinir_wne_uniform
noises laplace          | dncnn_laplace              | name=dncnn_laplace
noises laplace          | dncnn_wne_laplace          | name=dncnn_wne_laplace
noises laplace          | fdncnn_scale_equiv_laplace | name=fdncnn_scale_equiv_laplace
noises laplace          | fdncnn_norm_equiv_laplace  | name=fdncnn_norm_equiv_laplace
noises laplace fig21    | swinir_laplace             | name=swinir_laplace
noises laplace fig21    | swinir_wne_laplace         | name=swinir_wne_laplace
noises rayleigh         | dncnn_rayleigh             | name=dncnn_rayleigh
noises rayleigh         | dncnn_wne_rayleigh         | name=dncnn_wne_rayleigh
noises rayleigh         | fdncnn_scale_equiv_rayleigh | name=fdncnn_scale_equiv_rayleigh
noises rayleigh         | fdncnn_norm_equiv_rayleigh | name=fdncnn_norm_equiv_rayleigh
noises rayleigh fig21   | swinir_rayleigh            | name=swinir_rayleigh
noises rayleigh fig21   | swinir_wne_rayleigh        | name=swinir_wne_rayleigh
beyond                  | dncnn_soft_ne              | name=dncnn_soft_ne
beyond                  | dncnn_multi_noise          | name=dncnn_multi_noise
beyond                  | dncnn_wne_multi_noise      | name=dncnn_wne_multi_noise
beyond                  | dncnn_wne_jpeg             | name=dncnn_wne_jpeg
beyond                  | restormer_progressive      | name=restormer_progressive
END
}

options=$(cd "$(dirname "$0")/../options/experiments" && pwd)

run() {
  echo "+ $*"
  [ -n "$dry" ] || "$@"
}

usage() {
  echo "reproduce_paper: $1; GROUP is all, or one of: $(list | cut -d'|' -f1 | tr -s ' \n' '\n' | sort -uV | xargs)" >&2
  exit 2
}

dry='' groups='' further=()
[ "${1:-}" != --dry-run ] || { dry=yes && shift; }
case ${1:-} in
  list) list && exit ;;
  figures)
    shift
    networks=()
    while [ $# -gt 0 ] && [[ $1 != -* ]]; do
      networks+=("$1") && shift
    done
    [ ${#networks[@]} -gt 0 ] || usage 'figures needs checkpoints, such as experiments/dncnn_sigma25/models/net_g_latest.pth'
    run basicsr mismatch --draws 20 "${networks[@]}" "$@" --data datasets/Set12 datasets/BSD68 -o figures
    run basicsr mismatch "${networks[@]}" "$@" --degradation "gaussian=$(seq -s, 0 5 95)" --defect all \
      --data datasets/Set12 -o figures/defect # Figure 9
    run basicsr analyze "${networks[@]}" --data datasets/BSD400 -o figures/analysis
    [ ${#networks[@]} -gt 1 ] || exit 0
    for task in denoise random; do # Tables 11 and 12
      run basicsr sample "${networks[0]}" datasets/Set12 --against "${networks[@]:1}" --task $task -o figures/$task
    done
    exit
    ;;
esac
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ "$1" = all ] || list | cut -d'|' -f1 | grep -qw -e "$1" || usage "no group is called $1"
  groups+=" $1 " && shift
done
[ -n "$groups" ] || usage 'which experiments?'
[ $# -eq 0 ] || { shift && further=("$@"); }

while IFS='|' read -r of file overrides; do
  for group in all $of; do
    [[ $groups != *" $group "* ]] || { # shellcheck disable=SC2086 # words of the list
      run basicsr train -opt "$options/${file// /}.yml" --auto_resume --force_yml $overrides ${further[@]+"${further[@]}"} </dev/null
      break
    }
  done
done < <(list)
