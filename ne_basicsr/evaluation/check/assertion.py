"""The certificate in one call: a verdict for notebooks, an assertion for tests."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from ne_basicsr.evaluation.check.checks import Certificate, certify
from ne_basicsr.evaluation.check.images import synthetic_images
from ne_basicsr.evaluation.check.law import PRECISIONS
from ne_basicsr.evaluation.check.request import SIGMA, SIZE
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
) -> Verdict:
    """Whether f(a y + b) = a f(y) + b holds up to rounding, as ``basicsr check`` finds it.

    Args:
        network: f, (N, C, H, W) to (N, C', rH, rW): a ``Denoiser``, a module, a function, or text as on the command
            line, such as ``net.pth@25+wne``.
        sigma: the noise level that a non-blind network is told, on the [0, 1] scale.
        dtypes: number types to ask in: float64, float32, bfloat16, float16. Those that it does not run in do not count.
        device: where it runs.
        images: each (1, C, H, W) in float64, all of one shape, nominally on [0, 1], not constant; synthetic ones if not
            given.

    Returns:
        ``passed``, and a ``sentence`` that says what the network is and why.

    Raises:
        InputError: for a network that runs in none of the types, or that cannot be opened.
    """
    return judge(_certified(network, sigma, dtypes, device, images))


def assert_equivariant(
    network: Network,
    *,
    sigma: float = SIGMA,
    dtypes: Sequence[str] = tuple(PRECISIONS),
    device: str = 'cpu',
    images: Sequence[Tensor] | None = None,
) -> None:
    """Raise AssertionError with the verdict and the rows that failed, unless ``check`` passes; arguments as there."""
    found = _certified(network, sigma, dtypes, device, images)
    verdict = judge(found)
    failed: Iterable[str] = (line(row) for row in found.rows if row.status == 'fail')
    assert verdict.passed, '\n'.join([verdict.sentence, HEADER, *failed])


def _certified(
    network: Network, sigma: float, dtypes: Sequence[str], device: str, images: Sequence[Tensor] | None
) -> Certificate:
    if isinstance(network, str):
        denoiser = open_denoiser(network, only=None, untrained=True, device=device)
    else:
        denoiser = as_denoiser(network)
    given = synthetic_images(denoiser.channels, SIZE) if images is None else images
    # a function stays one: torch does not see into it
    subject = denoiser if isinstance(denoiser.network, nn.Module) else denoiser.network
    return certify(subject, given, device=device, dtypes=dtypes, sigma=denoiser.needed(sigma))
