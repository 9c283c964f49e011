"""A report on the tokenization of requests."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenReport:
    """A report on the tokenization of requests.

    Attributes:
        requests: The number of requests.
        segments: The number of segments they became.
        tokens: The total number of tokens in the segments.
        texts: The number of texts to encode: two per pair, one per other request.
        encoded_texts: The number of texts that were encoded, after deduplication.
        repeated_inputs: The number of segments with the same model input as an earlier one, whose row they
            can share.
        truncated: Truncated requests, and the number of tokens that each lost, most first.
        longest: The requests with the longest segments, and their lengths in tokens, longest first.
        skipped: Skipped requests, with the reason for each.
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
        """A summary in a few lines."""
        lines = [
            f"{self.requests:,} requests became {self.segments:,} segments of {self.tokens:,} tokens",
            f"{self.encoded_texts:,} of {self.texts:,} texts were encoded; the others are duplicates",
            f"{self.repeated_inputs:,} segments have the same input as an earlier one",
        ]
        if self.longest:
            listed = [f"request {request} ({tokens:,} tokens)" for request, tokens in self.longest.items()]
            lines.append("longest: " + ", ".join(listed))
        if self.truncated:
            request, tokens = next(iter(self.truncated.items()))
            lines.append(
                f"{len(self.truncated):,} requests were truncated, by {sum(self.truncated.values()):,} "
                f"tokens in total; request {request} lost the most, {tokens:,}"
            )
        lines.extend(f"request {request} was skipped: {reason}" for request, reason in self.skipped.items())
        return "\n".join(lines)
