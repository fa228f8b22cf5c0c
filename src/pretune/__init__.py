"""pretune: plan and run two-stage edge learning within an energy and a delay budget."""

__version__ = "0.1.0"
