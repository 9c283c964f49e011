"""A tokenizer whose tokens are bytes."""


class ByteTokenizer:
    """A text's tokens are its bytes in UTF-8."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")
