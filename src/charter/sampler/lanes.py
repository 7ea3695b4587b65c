"""The rows of a decoding loop as lanes of the kernels of `charter.model.lanes`: their keys and values, and a step.

Where nothing waits to be admitted, a loop's rows become lanes, in the order of their groups, filled up to one tile of 8
or to tiles of 16. The lane of a row that ends idles until fewer will do; then the lanes close up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import pad

from charter.model.few_rows import TILES, in_tiles
from charter.model.fused import FusedForward, Joined
from charter.model.lanes import LANES, kernels
from charter.model.native import serves
from charter.sampler.cache import GroupCache

_FIRST_CELLS = 64


class Lanes:
    """The live rows of a cache, whose keys and values they take: the cache is left without.

    fused: of the policy, for sizes. slots: of each row in the cache, ascending. most: own tokens that a row may have.
    """

    def __init__(self, fused: FusedForward, cache: GroupCache, slots: Sequence[int], most: int) -> None:
        self._most = most
        self._step = cache.step
        self._lengths = cache.lengths
        beyond = -cache.prompt_keys[0].shape[2] % LANES
        order = torch.tensor(_filled_up(slots))
        self._prompts: list[list[Tensor]] = []
        self._own: list[Tensor] = []  # of each layer: cells `[tiles, T, 2 · Hkv · D, lanes]`, keys before values
        while cache.own_keys:  # layer by layer, so that little is there twice
            prompts = cache.prompt_keys.pop(0), cache.prompt_values.pop(0)
            self._prompts.append([(pad(x, (0, 0, 0, beyond)) if beyond else x).contiguous() for x in prompts])
            own = cache.own_keys.pop(0), cache.own_values.pop(0)
            cells = [x[order, :, : self._step].transpose(1, 2).flatten(2) for x in own]
            self._own.append(_parted(torch.cat(cells, dim=2)))
        like, width, inner = fused.last.weight, len(fused.last.weight), fused.joined[0][3].weight.shape[1]
        self._sizes = {
            "x": width, "n": width, "projected": len(fused.joined[0][0].weight), "seen": fused.heads * fused.head_dim,
            "inner": 2 * inner, "gated": inner, "cos": fused.head_dim, "sin": fused.head_dim,
        }  # fmt: skip
        self._constants = {
            "norm": like.new_tensor([1 / width, fused.last.eps]),
            "scale": like.new_tensor([fused.layers[0].spec.scale]),
        }
        self._arrange([slot // cache.completions for slot in slots])

    def hidden(self, fused: FusedForward, tokens: Sequence[int]) -> Tensor:
        """Last hidden states `[rows, D]`, after each row has read its token."""
        self._reserve(self._step + 1)
        run, room = kernels(), self._room
        heads, kv_heads, size = fused.heads, fused.kv_heads, fused.head_dim
        tiles, width, lanes = room["x"].shape
        self._tokens[self._lane_of] = torch.tensor(tokens)
        x = fused.embed[self._tokens]
        room["x"].copy_(in_tiles(x, lanes))
        for name, angle in zip(("cos", "sin"), fused.angles(x, self._begin + self._step), strict=True):
            room[name].copy_(in_tiles(angle[:, 0], lanes))
        at, each = self._at, self._each

        def norm(weight: Tensor) -> None:
            for of in each:
                run["norm"](of["x"], weight.data_ptr(), at["norm"], of["n"], width, lanes)

        def product(linear: Joined, x: str, y: str, *, name: str = "plain") -> None:
            (outputs, inner), bias = linear.weight.shape, linear.bias
            places = at[x], linear.weight.data_ptr(), 0 if bias is None else bias.data_ptr(), at[y]
            whole = outputs - outputs % TILES[lanes]
            run[f"{name}_{lanes}"](*places, inner, tiles * lanes, outputs, 0, whole)
            if whole < outputs:
                run[f"{name}_{lanes}_rest"](*places, inner, tiles * lanes, outputs, whole, outputs)

        for layer, joined, own, prompts in zip(fused.layers, fused.joined, self._own, self._prompts, strict=True):
            projections, out, gate_up, down = joined
            norm(layer.before_attention.weight)
            product(projections, "n", "projected", name="plain" if projections.bias is None else "biased")
            cells, apart = own.data_ptr(), own.element_size() * own.stride(0)
            cell = own.element_size() * own.stride(1) * self._step
            keys, values = (x.data_ptr() for x in prompts)
            for tile, of in enumerate(each):
                mine = cells + tile * apart
                run["rotation"](
                    of["projected"], of["cos"], of["sin"], mine + cell,
                    heads + kv_heads, size // 2, lanes, heads * size, (heads + 2 * kv_heads) * size,
                )  # fmt: skip
                run["attention"](
                    of["projected"], mine, keys, values, at["scores"], of["seen"],
                    of["blocks"], at["segments"], at["masks"], at["scale"],
                    heads, heads // kv_heads, size, lanes, prompts[0].shape[2], self._step + 1,
                )  # fmt: skip
            product(out, "seen", "x", name="added")
            norm(layer.before_mlp.weight)
            product(gate_up, "n", "inner")
            for of in each:
                run["gated"](of["inner"], of["gated"], lanes * self._sizes["gated"])
            product(down, "gated", "x", name="added")
        self._step += 1
        norm(fused.last.weight)
        return room["n"].transpose(1, 2).flatten(0, 1)[self._lane_of]

    def keep(self, still: Sequence[int]) -> None:
        """Go on with these of the rows."""
        self._lane_of = self._lane_of[torch.tensor(still, dtype=torch.long)]
        lanes: list[int] = self._lane_of.tolist()
        if lanes and len(_filled_up(lanes)) < len(self._groups):
            order = torch.tensor(_filled_up(lanes))
            tile, lane = order // _tile(len(self._groups)), order % _tile(len(self._groups))
            for layer, own in enumerate(self._own):
                self._own[layer] = _parted(own[tile, :, :, lane])
            self._arrange([self._groups[lane] for lane in lanes])

    def _arrange(self, groups: Sequence[int]) -> None:
        """Rows of these groups, in this order, in the lanes from the first on."""
        self._groups = _filled_up(groups)
        self._lane_of = torch.arange(len(groups))
        self._begin = self._lengths[torch.tensor(self._groups)]
        self._tokens = torch.zeros(len(self._groups), dtype=torch.long)
        blocks, segments, masks, longest = [0], [], [], 0
        for at in range(0, len(self._groups), LANES):
            block = self._groups[at : at + LANES]
            inside = [group for group, _ in groupby(block)]
            lengths = [int(self._lengths[group]) for group in inside]
            segments += zip(inside, lengths, strict=True)
            masks += [[float(group == own) for own in block] for group in inside]
            blocks.append(len(segments))
            longest = max(longest, sum(-(-length // LANES) * LANES for length in lengths))
        like, lanes = self._constants["norm"], _tile(len(self._groups))
        tiles = len(self._groups) // lanes
        self._room = self._constants | {
            "scores": like.new_empty(longest + self._most, LANES),
            "blocks": torch.tensor(blocks),
            "segments": torch.tensor(segments),
            "masks": like.new_tensor(masks),
            **{name: like.new_empty(tiles, size, lanes) for name, size in self._sizes.items()},
        }
        self._at = {name: tensor.data_ptr() for name, tensor in self._room.items()}
        apart = {name: like.element_size() * lanes * size for name, size in self._sizes.items()}
        apart["blocks"] = self._room["blocks"].element_size() * lanes // LANES
        self._each = [{name: self._at[name] + tile * step for name, step in apart.items()} for tile in range(tiles)]
        """Addresses of what each tile has for itself."""

    def _reserve(self, cells: int) -> None:
        """Make room for so many own tokens: at least twice the room there was."""
        if cells > self._most:
            raise ValueError(f"there is room for {self._most} own tokens, and number {cells} came")
        had = self._own[0].shape[1]
        if cells > had:
            extra = max(cells, min(2 * had, self._most), min(_FIRST_CELLS, self._most)) - had
            for layer, own in enumerate(self._own):
                self._own[layer] = pad(own, (0, 0, 0, 0, 0, extra))


def fit_for_lanes(fused: FusedForward, cache: GroupCache, most: int) -> bool:
    """Whether rows of a cache can decode by kernels, in inference mode: float32 on one or two cores of a CPU, a model
    whose heads have no norms of their own, and nobody out of an attention window's sight.

    most: own tokens that a row may have.
    """
    last, spec = fused.last, fused.layers[0].spec
    longest = int(cache.lengths.max()) + most
    sizes = {fused.head_dim, *fused.widths}
    read = [fused.embed, last.weight, cache.prompt_keys[0]]
    for layer, (projections, *others) in zip(fused.layers, fused.joined, strict=True):
        read += [layer.before_attention.weight, layer.before_mlp.weight, projections.weight]
        read += [one.weight for one in others] + ([] if projections.bias is None else [projections.bias])
        if (
            layer.query_norm is not None
            or any(one.bias is not None for one in others)
            or (layer.spec.window is not None and layer.spec.window < longest)
            or layer.spec.scale != spec.scale
            or {layer.before_attention.eps, layer.before_mlp.eps} != {last.eps}
        ):
            return False
    return (
        serves(*read)
        and all(x.is_contiguous() for x in read)
        and all(size % LANES == 0 for size in sizes)
        and fused.steady
    )


def _filled_up(numbers: Sequence[int]) -> list[int]:
    """Up to a whole number of a product's tiles, with the last one."""
    return [*numbers, *[numbers[-1]] * (-len(numbers) % _tile(len(numbers)))]


def _tile(rows: int) -> int:
    """Lanes of the tiles that so many rows fill."""
    return min(tile for tile in TILES if rows <= tile or tile == max(TILES))


def _parted(cells: Tensor) -> Tensor:
    """`[M, T, W]` → `[tiles, T, W, lanes]`."""
    return cells.unflatten(0, (-1, _tile(len(cells)))).permute(0, 2, 3, 1).contiguous()
