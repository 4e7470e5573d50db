"""What asks for the answer to an instruction."""


def build_instruction_prompt(text: str) -> str:
    """Render an instruction, or a question outside the multiple-choice formats."""
    return f"Instruction: {text}\nResponse:"
