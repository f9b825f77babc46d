"""Export networks to files for other programs.

``graphs``: the whole computation as ONNX or torch.export; ``swinir``: changes that SwinIR needs for it; ``weights``:
the parameters as safetensors or BasicSR's ``.pth``, with or without the wrapper.
"""
