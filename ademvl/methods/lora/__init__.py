"""LoRA without images: the control that trains the language model alone."""
