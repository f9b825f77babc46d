"""Networks: each file registers one family in BasicSR's ARCH_REGISTRY."""
