"""The W&B report that compares a table's rows: its specification, and the report made of it.

The specification is plain data, the options of wandb-workspaces' public classes by name, so it can
be written and read without that package, a network or an account.
"""

from collections.abc import Mapping
from typing import Any

from experiments.compose import ConfigError
from experiments.tables.spec import TableSpec

# A report's title may be no longer.
_LONGEST_TITLE = 128

_STEP = "trainer/global_step"
_BY_ROW = {"groupby": "config.row", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
_COLUMNS = (
    "config:label.value",
    "config:seed.value",
    "config:backbone.value",
    "summary:parameters/training",
    "summary:parameters/fused",
    "summary:multiply_adds",
    "summary:epochs",
    "summary:images_per_second",
    "tags:__ALL__",
)


def report_specification(table: TableSpec, entity: str, project: str) -> dict[str, Any]:
    """Say what is in a table's report: blocks, their runs and panels, as plain data.

    Only runs of the table's rows as their configs have them are in it, grouped by row.

    Args:
        table: The table.
        entity: Whose project it is; empty for the user's default.
        project: The project that the runs are in.

    Raises:
        ConfigError: No row of the table can be trained.
    """
    rows = [row.name for row in table.select(None) if row.name]
    if not rows:
        raise ConfigError(f"{table.file}: no row has a config, so there are no runs to compare")
    metric = table.reproduce.metric if table.reproduce else "test/acc1"
    published = [f"published/{metric}"] if _has_published(table) else []
    runs = {
        "entity": entity,
        "project": project,
        "name": table.id,
        "filters": f"Config('row') in {rows} and Config('changed') = False",
        "groupby": ["config.row"],
        "pinned_columns": [f"summary:{name}" for name in (metric, *published)],
        "visible_columns": list(_COLUMNS),
        "lock_columns": True,
    }
    return {
        "entity": entity,
        "project": project,
        "title": f"{table.id}: {table.title}"[:_LONGEST_TITLE],
        "description": f"{table.paper['title']}, {table.paper['venue']} {table.paper['year']}",
        "width": "fluid",
        "blocks": [
            {"block": "MarkdownBlock", "text": _published(table)},
            {"block": "H2", "text": "Rows: mean and standard deviation over seeds"},
            {"block": "PanelGrid", "runsets": [runs], "panels": _place(_panels(metric, published))},
            *(_of_kernel_warehouse(runs) if any("kernel_warehouse" in row for row in rows) else ()),
            {"block": "H2", "text": "Single runs"},
            {
                "block": "PanelGrid",
                "runsets": [{**runs, "groupby": []}],
                "panels": _place(_pictures()),
            },
        ],
    }


def build_report(specification: Mapping[str, Any]) -> Any:
    """Make the `wandb_workspaces` report that a specification describes; nothing is saved.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    from wandb_workspaces.reports import v2

    def panel(content: Mapping[str, Any]) -> Any:
        options = {key: value for key, value in content.items() if key not in ("panel", "layout")}
        layout = v2.Layout(**content["layout"])
        return getattr(v2, content["panel"])(layout=layout, **options)

    def block(content: Mapping[str, Any]) -> Any:
        options = {key: value for key, value in content.items() if key != "block"}
        if content["block"] == "PanelGrid":
            options["runsets"] = [v2.Runset(**runset) for runset in options["runsets"]]
            options["panels"] = [panel(one) for one in options["panels"]]
        return getattr(v2, content["block"])(**options)

    options = {key: value for key, value in specification.items() if key != "blocks"}
    if not options["entity"]:
        del options["entity"]
    return v2.Report(blocks=[block(one) for one in specification["blocks"]], **options)


def _has_published(table: TableSpec) -> bool:
    column = table.reproduce.column if table.reproduce else None
    return any(row.values.get(column or "") is not None for row in table.rows)


def _panels(metric: str, published: list[str]) -> list[dict[str, Any]]:
    validation = f"val/{metric.partition('/')[2]}"
    return [
        {
            "panel": "BarPlot",
            "title": f"{metric}, reproduced and published",
            "metrics": [metric, *published],
            **_BY_ROW,
        },
        _curve(f"{validation}, and what was published of {metric}", validation, *published),
        _curve("Training loss", "train/loss"),
        {
            "panel": "ScatterPlot",
            "title": f"{metric} against parameters",
            "x": "parameters/fused",
            "y": metric,
            "log_x": True,
            "legend_template": "${config:label} seed ${config:seed}",
        },
    ]


def _of_kernel_warehouse(runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    panels = [
        _curve("Attention temperature", "kernel_warehouse/temperature"),
        {
            **_curve("Cells in use, by layer (fit --histograms 1)"),
            "metric_regex": "^attention_cells/",
        },
    ]
    return [
        {"block": "H2", "text": "KernelWarehouse: temperature and attention"},
        {"block": "PanelGrid", "runsets": [dict(runs)], "panels": _place(panels)},
    ]


def _curve(title: str, *metrics: str) -> dict[str, Any]:
    return {"panel": "LinePlot", "title": title, "x": _STEP, "y": list(metrics), **_BY_ROW}


def _pictures() -> list[dict[str, Any]]:
    return [
        {"panel": "MediaBrowser", "title": title, "media_keys": [key]}
        for title, key in (
            ("Confusion matrix of the test", "confusion_matrix"),
            ("First images of the first batch", "first_batch"),
        )
    ]


def _place(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two panels beside each other, on a grid of 24 columns."""
    return [
        {**panel, "layout": {"x": 12 * (place % 2), "y": 8 * (place // 2), "w": 12, "h": 8}}
        for place, panel in enumerate(panels)
    ]


def _published(table: TableSpec) -> str:
    """The published numbers as a Markdown table, with their source."""
    names = [f"{column.name} ({column.unit})" for column in table.columns]
    lines = [["row", "config", *names], ["---"] * (2 + len(names))]
    for row in table.rows:
        values = (row.values[column.name] for column in table.columns)
        numbers = ["" if value is None else str(value) for value in values]
        lines.append([row.label, row.name or "", *numbers])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Published: {'; '.join(table.source)}\n\n{text}"
