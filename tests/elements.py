"""Elements and sources for tests of datasets."""

import threading

import numpy as np


def rows(lengths):
    """Elements with sequences of these lengths, each identified by its number."""
    return [
        {"inputs": np.full((1, length), number + 1, np.int32), "idx": np.array([number], np.int32)}
        for number, length in enumerate(lengths)
    ]


def identity(element):
    return element


def length_of(element):
    return element["inputs"].shape[1]


class Counting:
    """A source that counts how often each element is read."""

    def __init__(self, elements):
        self.elements = elements
        self.reads = [0] * len(elements)
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.elements)

    def __getitem__(self, index):
        with self.lock:
            self.reads[index] += 1
        return self.elements[index]
