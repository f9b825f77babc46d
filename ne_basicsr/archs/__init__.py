"""Networks: each file registers one family in BasicSR's ARCH_REGISTRY.

BasicSR and its registry are imported here, so that any module of this package can be the first import.
"""

import basicsr  # noqa: F401
