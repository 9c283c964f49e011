"""A lower bound on the tokens that rows of prefix trees need."""

import numpy as np


def least_row_tokens(lengths, order, shared, capacity):
    """A lower bound on the tokens in rows of length ``capacity`` that hold all segments.

    A row that holds a tree node at depth ``d`` also holds the ``d`` tokens above it, and so at most
    ``capacity - d`` tokens below it. If ``below`` tokens lie below the node, at least
    ``ceil(below / (capacity - d))`` rows hold it, and no fewer than hold any of its children.
    """
    open_nodes = [[0, 0, 1]]  # depth, tokens below, rows; the path to the last segment

    def close(parent_depth):
        depth, below, rows = open_nodes.pop()
        if depth < capacity:
            rows = max(rows, -(-below // (capacity - depth)))
        return below + rows * (depth - parent_depth), rows

    def add(below, rows):
        open_nodes[-1][1] += below
        open_nodes[-1][2] = max(open_nodes[-1][2], rows)

    for length, common in zip(np.asarray(lengths)[order].tolist(), shared.tolist(), strict=True):
        while open_nodes[-1][0] > common:
            if open_nodes[-2][0] < common:
                below, rows = close(common)
                open_nodes.append([common, 0, 1])
            else:
                below, rows = close(open_nodes[-2][0])
            add(below, rows)
        if length > open_nodes[-1][0]:
            open_nodes.append([length, 0, 1])
    while len(open_nodes) > 1:
        add(*close(open_nodes[-2][0]))
    return open_nodes[0][1]
