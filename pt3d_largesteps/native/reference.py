"""The operators of ``operators.py`` in plain torch: the reference in the tests, and the fallback if nothing is compiled.

The algorithm is the same, but simpler: nested dissection (George 1973) and one dense front per part of the graph
(multifrontal: Duff and Reid 1983). For each front it stores G, the inverse of the diagonal block, and P, the rows below times
G. The index buffer begins like the compiled one (csrc/structure/index_buffer.h), so each solver can read the structure of the
other. The layout of the factor is this file's own: G and P of each supernode, one supernode after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor

HEADER_SIZE = 64
MAGIC_REFERENCE, MAGIC_COMPILED = 0x4C535231, 0x4C535431
# Fields of the header; from SECTION_OFFSETS on, the starts of the sections. The same as in csrc/structure/index_buffer.h.
MAGIC, TOTAL_SIZE, NUM_VERTS, NUM_ENTRIES, NUM_SUPERNODES, NUM_LEVELS = range(6)
FACTOR_BLOCKS, FACTOR_ENTRIES_LOW, FACTOR_ENTRIES_HIGH, SECTION_OFFSETS = 11, 12, 13, 20
ENTRY_ROWS, ENTRY_COLUMNS, CROW, OLD_FROM_NEW, NEW_FROM_OLD, FIRST, PARENT, SUBTREE, ROW_START, ROWS, ROWS_IN_PARENT = range(11)
SMALLEST_PIVOT = 1e-14  # relative to the diagonal of the matrix; smaller pivots are rounding errors


def analyze(
    crow_indices: Tensor, col_indices: Tensor, positions: Tensor | None, leaf_size: int, by_levels: bool = False
) -> Tensor:
    """See :func:`pt3d_largesteps.native.operators.analyze`."""
    if by_levels:
        raise RuntimeError("by_levels: expected False; the reference runs on the CPU only")
    crow, columns = crow_indices.numpy(), col_indices.numpy()
    size, num_entries = len(crow) - 1, len(columns)
    if crow[0] != 0 or (np.diff(crow) < 0).any() or crow[-1] != num_entries:
        raise RuntimeError("matrix: expected crow_indices that increase from 0 to the number of entries")
    rows = np.repeat(np.arange(size), np.diff(crow))
    inside = num_entries == 0 or (columns.min() >= 0 and columns.max() < size)
    if not inside or (np.diff(rows * size + columns) <= 0).any():
        raise RuntimeError(f"matrix: expected increasing columns in [0, {size})")
    graph = csr_matrix((np.ones(num_entries, dtype=np.int8), columns, crow), shape=(size, size))
    if (graph != graph.T).nnz or np.count_nonzero(rows == columns) != size:
        raise RuntimeError("matrix: expected a symmetric pattern with every diagonal entry")
    parts = _dissect(graph, None if positions is None else positions.numpy(), leaf_size)
    old_from_new = np.concatenate([*parts, np.empty(0, dtype=np.int64)])
    new_from_old = np.empty(size, dtype=np.int64)
    new_from_old[old_from_new] = np.arange(size)
    first = np.cumsum([0, *map(len, parts)])
    node_of = np.repeat(np.arange(len(parts)), np.diff(first))
    below: list[np.ndarray] = []
    children: list[list[int]] = [[] for _ in parts]
    parent = np.full(len(parts), -1)
    for node, part in enumerate(parts):
        neighbours = [new_from_old[graph[part].indices], *(below[child] for child in children[node])]
        found = np.unique(np.concatenate(neighbours))
        below.append(found[found >= first[node + 1]])
        if len(below[node]):
            parent[node] = node_of[below[node][0]]
            children[parent[node]].append(node)
    subtree, height, in_parent = np.arange(len(parts)), np.zeros(len(parts), dtype=np.int64), []
    for node, above in enumerate(parent):
        if above < 0:
            in_parent.append(np.empty(0, dtype=np.int64))
            continue
        subtree[above] = min(subtree[above], subtree[node])
        height[above] = max(height[above], height[node] + 1)
        everything = np.concatenate([np.arange(first[above], first[above + 1]), below[above]])
        in_parent.append(np.searchsorted(everything, below[node]))
    row_start = np.cumsum([0, *map(len, below)])
    flat = [np.concatenate([*lists, np.empty(0, dtype=np.int64)]) for lists in (below, in_parent)]
    sections = [rows, columns, crow, old_from_new, new_from_old, first, parent, subtree, row_start, *flat]
    widths, heights = np.diff(first), np.diff(row_start)
    entries = int((widths * (widths + 1) // 2 + widths * heights).sum())
    header = np.zeros(HEADER_SIZE, dtype=np.int64)
    offsets = HEADER_SIZE + np.cumsum([0, *map(len, sections)])
    header[[MAGIC, TOTAL_SIZE, NUM_VERTS, NUM_ENTRIES]] = MAGIC_REFERENCE, offsets[-1], size, num_entries
    header[[NUM_SUPERNODES, NUM_LEVELS]] = len(parts), height.max() + 1 if len(parts) else 0
    header[[FACTOR_ENTRIES_LOW, FACTOR_ENTRIES_HIGH]] = entries % 2**31, entries // 2**31
    header[FACTOR_BLOCKS] = -(-int((widths * (widths + heights)).sum()) // 8)
    header[SECTION_OFFSETS : SECTION_OFFSETS + len(sections)] = offsets[:-1]
    return torch.from_numpy(np.concatenate([header, *sections]).astype(np.int32))


def _dissect(graph: csr_matrix, positions: np.ndarray | None, leaf_size: int) -> list[np.ndarray]:
    """Parts of the vertices in elimination order: the two halves come before their separator."""
    parts, stack = [], [(np.arange(graph.shape[0]), False)]
    while stack:
        part, is_done = stack.pop()
        if is_done or len(part) <= leaf_size:
            if len(part):
                parts.append(part)
            continue
        inside = graph[part][:, part]
        order = _order_across(inside, None if positions is None else positions[part])
        left, right = order[: len(order) // 2], order[len(order) // 2 :]
        is_right = np.zeros(len(part), dtype=bool)
        is_right[right] = True
        separator = left[(inside[left] @ is_right.astype(np.int32)) > 0]
        left = np.setdiff1d(left, separator)
        if 2 * len(separator) > len(part):  # a cut gains nothing
            parts.append(part)
            continue
        stack += [(part[separator], True), (part[right], False), (part[left], False)]
    return parts


def _order_across(graph: csr_matrix, positions: np.ndarray | None) -> np.ndarray:
    """The vertices of a part, sorted along its longest extent."""
    if positions is not None:
        axis = np.ptp(positions, axis=0).argmax()
        return np.argsort(positions[:, axis], kind="stable")
    count, label = connected_components(graph, directed=False)
    if count > 1:
        return np.argsort(label, kind="stable")
    start = breadth_first_order(graph, 0, directed=False, return_predecessors=False)[-1]
    return breadth_first_order(graph, start, directed=False, return_predecessors=False)


class _Structure:
    """The sections of an index buffer, as tensors and lists."""

    def __init__(self, index: Tensor) -> None:
        header = index[:HEADER_SIZE].tolist()
        starts = [*header[SECTION_OFFSETS : SECTION_OFFSETS + ROWS_IN_PARENT + 1], header[SECTION_OFFSETS + ROWS_IN_PARENT]]
        self.sections = [index[start:end].long() for start, end in itertools.pairwise(starts)]
        self.rows, self.in_parent = self.sections[ROWS], index[starts[ROWS_IN_PARENT] :][: len(self.sections[ROWS])].long()
        self.first, self.parent = self.sections[FIRST].tolist(), self.sections[PARENT].tolist()
        self.row_start = self.sections[ROW_START].tolist()

    def __iter__(self) -> Iterator[tuple[int, slice, Tensor, tuple[int, int, int]]]:
        """Per supernode: its columns as a slice, its rows, and the place of its G and P in the factor."""
        start = 0
        for node in range(len(self.parent)):
            n, r = self.first[node + 1] - self.first[node], self.row_start[node + 1] - self.row_start[node]
            rows = self.rows[self.row_start[node] : self.row_start[node + 1]]
            yield node, slice(self.first[node], self.first[node + 1]), rows, (start, n, r)
            start += n * (n + r)


def count_entries(index: Tensor) -> Tensor:
    """See :func:`pt3d_largesteps.native.operators.count_entries`.

    Source: Davis, "Algorithm 849: A Concise Sparse Cholesky Factorization Package", ACM TOMS 31(4), 2005.
    """
    sections = _Structure(index).sections
    new_from_old, crow = sections[NEW_FROM_OLD], sections[CROW].tolist()
    columns = new_from_old[sections[ENTRY_COLUMNS]].tolist()
    count = size = len(new_from_old)
    parent, last_row = [-1] * size, [-1] * size
    for row, vertex in enumerate(sections[OLD_FROM_NEW].tolist()):
        last_row[row] = row
        for column in columns[crow[vertex] : crow[vertex + 1]]:
            while column < row and last_row[column] != row:  # up the elimination tree, until a column already counted
                if parent[column] < 0:
                    parent[column] = row
                last_row[column] = row
                count += 1
                column = parent[column]
    return torch.tensor(count)


def factorize(values: Tensor, index: Tensor, store_double: bool) -> tuple[Tensor, Tensor]:
    """See :func:`pt3d_largesteps.native.operators.factorize`; always in float64, for any dtype given or stored."""
    structure = _Structure(index)
    if values.dim() == 2:
        results = [factorize(matrix, index, store_double) for matrix in values]
        if not results:
            dtype = torch.float64 if store_double else values.dtype
            size = len(factorize(values.new_ones(values.shape[1]), index, store_double)[0])
            return values.new_zeros(0, size, dtype=dtype), values.new_zeros(0, 3, dtype=torch.float64)
        return torch.stack([factor for factor, _ in results]), torch.stack([breakdown for _, breakdown in results])
    if len(values) != len(structure.sections[ENTRY_ROWS]):
        raise RuntimeError(f"values: expected {len(structure.sections[ENTRY_ROWS])} numbers, got {len(values)}")
    new_from_old, numbers = structure.sections[NEW_FROM_OLD], values.double()
    rows, cols = new_from_old[structure.sections[ENTRY_ROWS]], new_from_old[structure.sections[ENTRY_COLUMNS]]
    order = torch.argsort(cols, stable=True)  # the entries by columns of the reordered matrix
    starts = torch.searchsorted(cols[order], torch.arange(len(new_from_old) + 1)).tolist()
    diagonal = torch.zeros(len(new_from_old), dtype=torch.float64)
    diagonal[rows[rows == cols]] = numbers[rows == cols]
    sizes = [n * (n + r) for _, _, _, (_, n, r) in structure]
    dtype = torch.float64 if store_double else values.dtype
    factor = values.new_zeros(-(-sum(sizes) // 8) * 8, dtype=dtype)
    updates: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for node, columns, below, (start, n, r) in structure:
        front = torch.zeros(n + r, n + r, dtype=torch.float64)
        entries = order[starts[columns.start] : starts[columns.stop]]
        entries = entries[rows[entries] >= columns.start]
        local = torch.where(
            rows[entries] < columns.stop, rows[entries] - columns.start, n + torch.searchsorted(below, rows[entries])
        )
        front[local, cols[entries] - columns.start] = numbers[entries]
        front[:n, n:] = front[n:, :n].T
        for where, update in updates.pop(node, []):
            front[where[:, None], where] += update
        lower, info = torch.linalg.cholesky_ex(front[:n, :n])
        pivots = lower.diagonal() ** 2
        bad = (~(pivots > SMALLEST_PIVOT * diagonal[columns])).nonzero() if int(info) == 0 else info.view(1, 1) - 1
        if len(bad):
            column = columns.start + int(bad[0])
            vertex = structure.sections[OLD_FROM_NEW][column]
            pivot = float(pivots[bad[0]]) if int(info) == 0 else float("nan")
            return factor, torch.tensor([float(vertex), pivot, float(diagonal[column])], dtype=torch.float64)
        inverse = torch.cholesky_inverse(lower)
        product = front[n:, :n] @ inverse
        factor[start : start + n * n] = inverse.flatten().to(factor.dtype)
        factor[start + n * n : start + n * (n + r)] = product.flatten().to(factor.dtype)
        if r:
            where = structure.in_parent[structure.row_start[node] : structure.row_start[node + 1]]
            update = front[n:, n:] - product @ front[:n, n:]
            updates.setdefault(structure.parent[node], []).append((where, update))
    no_vertex = -1.0 if bool(torch.isfinite(factor).all()) else -2.0
    return factor, torch.tensor([no_vertex, 0.0, 0.0], dtype=torch.float64)


def solve(values: Tensor, factor: Tensor, index: Tensor, rhs: Tensor, direction: int) -> Tensor:
    """See :func:`pt3d_largesteps.native.operators.solve`."""
    if not bool(torch.isfinite(rhs).all()):
        raise RuntimeError("rhs: expected finite numbers, got NaN or infinity")
    if rhs.dim() == 3:
        factors = factor if factor.dim() == 2 else [factor] * len(rhs)
        solutions = [solve(values, one, index, columns, direction) for one, columns in zip(factors, rhs, strict=True)]
        return torch.stack(solutions) if solutions else rhs.clone()
    structure = _Structure(index)
    old_from_new = structure.sections[OLD_FROM_NEW]
    x, supernodes = rhs[old_from_new].to(factor.dtype), list(structure)
    for _, columns, below, (start, n, r) in supernodes:
        product = factor[start + n * n : start + n * (n + r)].view(r, n)
        x.index_add_(0, below, product @ x[columns], alpha=-1)
    for _, columns, below, (start, n, r) in reversed(supernodes):
        inverse = factor[start : start + n * n].view(n, n)
        product = factor[start + n * n : start + n * (n + r)].view(r, n)
        x[columns] = inverse @ x[columns] - product.T @ x[below]
    solution = torch.empty_like(rhs, memory_format=torch.contiguous_format)
    return solution.index_copy_(0, old_from_new, x.to(rhs.dtype))
