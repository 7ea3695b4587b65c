"""`charter assets list` and `charter assets get NAME`: the pinned models that need no account."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Offline models and data: list them, fetch one.")


@app.command("list")
def list_assets(as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False) -> None:
    """List the assets and whether they are here."""
    from charter.assets import ASSETS, fetched

    rows = [
        {
            "name": asset.name,
            "kind": asset.kind,
            "licence": asset.licence,
            "download_bytes": asset.size_bytes,
            "content": asset.content,
            "package": f"{asset.package}=={asset.version}",
            "sha256": asset.sha256,
            "path": str(folder) if (folder := fetched(asset.name)) else None,
        }
        for asset in ASSETS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        here = row["path"] or f"not here yet: charter assets get {row['name']} ({row['download_bytes'] / 1e6:.0f} MB)"
        typer.echo(f"{row['name']}  {row['kind']}, {row['licence']}, {row['package']}")
        typer.echo(f"    {row['content']}\n    {here}")


@app.command("get")
def get_asset(
    name: Annotated[str, typer.Argument(help="Name of the asset, as `charter assets list` prints it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Fetch an asset, once, and print its folder."""
    from charter.assets import ASSETS, get
    from charter.errors import UsageError

    if name not in ASSETS:
        raise UsageError(f"there is no asset {name!r}. There are: {', '.join(ASSETS)}")
    folder = get(name)
    typer.echo(json.dumps({"name": name, "path": str(folder)}) if as_json else folder)
