"""Option files, validated completely before anything starts.

``load_options`` reads a file safely, applies ``--force_yml``, checks every section, fills in the defaults and derives
what BasicSR's builders expect. Whatever is wrong ends in one line: file, key, what was given, what would be right.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from ne_basicsr.archs import own_networks
from ne_basicsr.options.reader import Source, parse_literal, read_source, read_yaml
from ne_basicsr.utils.errors import InputError, OptionError, one_line
from ne_basicsr.utils.words import shown
from ne_basicsr.weights import shipped_models

__all__ = ['apply_overrides', 'complete_options', 'load_options', 'read_yaml']

PATH_KEYS = ('dataroot_', 'meta_info', 'pretrain_network', 'resume_state')
DERIVED = ('phase', 'scale')  # of a data set: not the file's


def load_options(
    path: str | Path | Mapping[str, Any],
    force_yml: Iterable[str] = (),
    *,
    is_train: bool,
    auto_resume: bool = False,
    debug: bool = False,
    root: str | Path | None = None,
) -> dict[str, Any]:
    """The complete options of a run, as plain nested dicts.

    Args:
        path: option file of BasicSR's shape, or its content, which is not changed.
        force_yml: ``key:sub=value`` entries that overrule the file.
        is_train: whether to train; a test needs no ``train`` section and ignores its data.
        auto_resume: passed on as ``opt['auto_resume']``.
        debug: prefix the name with ``debug_``; validate, log and save all the time.
        root: folder under which experiments/ and results/ are; default: the current one.

    Returns:
        The file's options with defaults, ``is_train, auto_resume, dist, rank, world_size, root_path``, the number of
        GPUs resolved, a seed drawn where none is given, and ``phase``, ``scale`` and folders as BasicSR derives them.
        Nothing is created on disk. An ``InputError`` is one line: the file, the key, the value and the way out.
    """
    source = Source(dict(path), (Path('options'),), {}) if isinstance(path, Mapping) else read_source(path)
    opt = _validated(source, list(force_yml), is_train, here=True)
    if debug and not opt['name'].startswith('debug'):
        opt['name'] = f'debug_{opt["name"]}'
    return _derived(opt, is_train, auto_resume, Path.cwd() if root is None else Path(root))


def complete_options(path: str | Path, force_yml: Iterable[str] = (), *, tried: bool = False) -> dict[str, Any]:
    """What an option file says, with its bases, overrides and defaults, as an option file could say it alone.

    Checked as for training where there is a ``train`` section, as for a test elsewhere. Data, weights and GPUs need not
    be there. With ``tried``, ``load_options`` has built the network of these options, and it is not built again.
    """
    source, entries = read_source(path), list(force_yml)
    is_train = apply_overrides(source.options, entries).get('train') is not None
    opt = _validated(source, entries, is_train, here=False, tried=tried)
    for section in opt['datasets'].values():
        for key in DERIVED:
            section.pop(key, None)
    return opt


def apply_overrides(opt: Mapping[str, Any], entries: Iterable[str]) -> dict[str, Any]:
    """A copy of ``opt`` with ``key:sub=value`` entries set, new keys included. Values are literals, read as YAML."""
    changed = deepcopy(dict(opt))
    for entry in entries:
        keys, equals, text = entry.partition('=')
        names = [name.strip() for name in keys.split(':')]
        if not equals or not all(names):
            raise InputError(one_line(f'--force_yml {entry}: key:sub=value is needed, e.g. train:total_iter=1000'))
        section = changed
        for depth, name in enumerate(names[:-1], start=1):
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                problem = f'{":".join(names[:depth])} is {shown(section)}, not a section, so it has no {names[depth]!r}'
                raise InputError(one_line(f'--force_yml {entry}: {problem}'))
        try:
            section[names[-1]] = parse_literal(text.strip())
        except ValueError as error:
            raise InputError(one_line(f'--force_yml {entry}: {error}')) from None
    return changed


def _derived(opt: dict[str, Any], is_train: bool, auto_resume: bool, root: Path) -> dict[str, Any]:
    """What BasicSR's ``parse_options`` and ``train_pipeline`` add; ``opt`` is complete and this function's own."""
    opt |= {'is_train': is_train, 'auto_resume': auto_resume, 'dist': False, 'rank': 0, 'world_size': 1}
    opt['root_path'] = str(root)
    if opt['manual_seed'] is None:
        # apart from the global generators, whose state belongs to whoever seeded them
        opt['manual_seed'] = random.SystemRandom().randint(1, 10000)
    for section in (*opt['datasets'].values(), opt['path']):
        for key, value in section.items():
            if isinstance(value, str) and key.startswith(PATH_KEYS):
                path = Path(value).expanduser()
                section[key] = str(shipped_models.resolve(path) if key.startswith('pretrain_network') else path)
    folder = root / ('experiments' if is_train else 'results') / opt['name']
    inside = ['visualization', *(['models', 'training_states'] if is_train else [])]
    opt['path'] |= dict.fromkeys(['log', 'experiments_root' if is_train else 'results_root'], str(folder))
    opt['path'] |= {name: str(folder / name) for name in inside}
    if is_train and opt['name'].startswith('debug'):
        if 'val' in opt:
            opt['val']['val_freq'] = 8
        opt['logger'] |= {'print_freq': 1, 'save_checkpoint_freq': 8}
    return opt


def _validated(source: Source, entries: list[str], is_train: bool, here: bool, tried: bool = False) -> dict[str, Any]:
    """``validate``, with errors that name the file and line, or the override, that is wrong."""
    from ne_basicsr.options.validation import places_of, validate  # not above: most commands only read option files

    keys = [tuple(name.strip() for name in entry.partition('=')[0].split(':')) for entry in entries]
    for entry, key in zip(entries, keys, strict=True):
        if key[0] == 'base':
            raise InputError(one_line(f'--force_yml {entry}: base belongs into an option file; give that file to -opt'))

    def causes(error: OptionError) -> Iterator[str]:
        """Overrides of the wrong key, the last one first, then one without which this error would not be there."""
        yield from (e for e, key in reversed([*zip(entries, keys, strict=True)]) if error.key[: len(key)] == key)
        for index in reversed(range(len(entries))):
            try:
                validate(apply_overrides(source.options, entries[:index] + entries[index + 1 :]), is_train, here)
            except (OptionError, InputError) as other:
                if other.args == error.args:
                    continue
            yield entries[index]

    try:
        changed = apply_overrides(source.options, entries)
        if changed.get(own_networks.IMPORTS) is not None:
            try:
                own_networks.import_own(changed[own_networks.IMPORTS])
            except InputError as error:
                raise OptionError((own_networks.IMPORTS,), str(error)) from error
        return validate(changed, is_train, here, tried)
    except OptionError as error:
        name, about = ':'.join(error.key), error.problem
        if entry := next(causes(error), ''):
            if about.startswith('unknown option; known'):
                with suppress(OptionError):
                    places = places_of(error.key[-1], apply_overrides(source.options, entries))
                    named = ' or '.join(':'.join(place) for place in places)
                    about = f'unknown option; did you mean {named}?' if named else about
            raise InputError(one_line(f'{source.files[0]} with --force_yml {entry}: {name}: {about}')) from None
        # the place of the key, or else of the section that it is missing from
        given = [error.key[:length] for length in range(len(error.key), 0, -1) if error.key[:length] in source.places]
        file, line = source.places[given[0]] if given else (source.files[0], 0)
        base_of = f', base of {source.files[0]}' if file != source.files[0] else ''
        raise InputError(one_line(f'{file}: {name}: {about}' + (f' (line {line}{base_of})' if line else ''))) from None
