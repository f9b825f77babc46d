"""Networks in files for other programs.

graphs (ONNX and torch.export: the whole computation), swinir (what SwinIR needs for that), weights (safetensors and
BasicSR's ``.pth``: the parameters, with or without the wrapper).
"""
