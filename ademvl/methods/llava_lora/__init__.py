"""LLaVA-LoRA: the image as projected tokens in the text, and LoRA on the language model."""
