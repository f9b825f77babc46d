"""The certificate in one call: ``check`` for notebooks, ``assert_equivariant`` for tests."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from ne_basicsr.evaluation.check.checks import Certificate, certify
from ne_basicsr.evaluation.check.law import PRECISIONS
from ne_basicsr.evaluation.check.request import SIGMA, subject_of
from ne_basicsr.evaluation.check.table import HEADER, line
from ne_basicsr.evaluation.check.verdict import Verdict, judge
from ne_basicsr.inference.denoiser import Denoiser, as_denoiser
from ne_basicsr.inference.opening import open_denoiser

Network = Denoiser | nn.Module | Callable[..., Tensor] | str


def check(
    network: Network,
    *,
    sigma: float = SIGMA,
    dtypes: Sequence[str] = tuple(PRECISIONS),
    device: str = 'cpu',
    images: Sequence[Tensor] | None = None,
    trusted: bool = False,
) -> Verdict:
    """Check whether f(a y + b) = a f(y) + b holds up to rounding, with the checks of ``basicsr check``.

    Args:
        network: f, (N, C, H, W) to (N, C', rH, rW): a ``Denoiser``, a module, a function, or text as on the command
            line, such as ``net.pth@25+wne``.
        sigma: noise level for a non-blind network, on the [0, 1] scale.
        dtypes: number types to check: float64, float32, bfloat16, float16. Types in which it does not run are skipped.
        device: where it runs.
        images: each (1, C, H, W) in float64, all of one shape, nominally on [0, 1], not constant; default: synthetic
            images.
        trusted: whether a ``.pt2`` file may be read, which can run code.

    Returns:
        ``passed``, and a ``sentence`` with the result and the reason.

    Raises:
        InputError: for a network that cannot be opened or runs in none of the types.
    """
    return judge(_certified(network, sigma, dtypes, device, images, trusted))


def assert_equivariant(
    network: Network,
    *,
    sigma: float = SIGMA,
    dtypes: Sequence[str] = tuple(PRECISIONS),
    device: str = 'cpu',
    images: Sequence[Tensor] | None = None,
    trusted: bool = False,
) -> None:
    """Raise AssertionError with the verdict and the failed rows, unless ``check`` passes; same arguments."""
    found = _certified(network, sigma, dtypes, device, images, trusted)
    verdict = judge(found)
    failed: Iterable[str] = (line(row) for row in found.rows if row.status == 'fail')
    assert verdict.passed, '\n'.join([verdict.sentence, HEADER, *failed])


def _certified(
    network: Network,
    sigma: float,
    dtypes: Sequence[str],
    device: str,
    images: Sequence[Tensor] | None,
    trusted: bool,
) -> Certificate:
    if isinstance(network, str):
        denoiser = open_denoiser(network, only=None, untrained=True, device=device, trusted=trusted)
    else:
        denoiser = as_denoiser(network)
    subject = subject_of(denoiser, dtypes, sigma)
    given = subject.images(None) if images is None else images
    return certify(subject.network, given, device=device, dtypes=subject.dtypes, sigma=subject.sigma)
