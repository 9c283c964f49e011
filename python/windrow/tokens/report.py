"""What happened to requests on their way to tokens."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenReport:
    """What happened to requests on their way to tokens.

    Attributes:
        requests: How many requests were given.
        segments: How many segments they became.
        tokens: How many tokens the segments have together.
        texts: How many texts were to be encoded: two for a pair, one for others.
        encoded_texts: How many of them were encoded; equal texts are encoded once.
        repeated_inputs: How many segments have the same model input as an earlier one, so that they can share
            its row.
        truncated: Requests of which tokens were cut off, and how many, most first.
        longest: The requests with the longest segments, and their tokens, longest first.
        skipped: Requests that were left out, and what is wrong with each.
    """

    requests: int
    segments: int
    tokens: int
    texts: int
    encoded_texts: int
    repeated_inputs: int = 0
    truncated: dict[int, int] = field(default_factory=dict)
    longest: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.requests:,} requests became {self.segments:,} segments of {self.tokens:,} tokens",
            f"{self.encoded_texts:,} of {self.texts:,} texts were encoded, the others equal one of them",
            f"{self.repeated_inputs:,} segments have the same input as an earlier one",
        ]
        if self.longest:
            listed = [f"request {request} ({tokens:,} tokens)" for request, tokens in self.longest.items()]
            lines.append("longest: " + ", ".join(listed))
        if self.truncated:
            request, tokens = next(iter(self.truncated.items()))
            lines.append(
                f"{len(self.truncated):,} requests were truncated, by {sum(self.truncated.values()):,} "
                f"tokens; most of all request {request}, by {tokens:,}"
            )
        lines.extend(f"request {request} was left out: {reason}" for request, reason in self.skipped.items())
        return "\n".join(lines)
