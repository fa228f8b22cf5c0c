"""The studio: a local web page and a REST API over the planner and the runs. Only this package knows FastAPI.

settings  what the operator chose           guard     who may ask: hosts, origins, tokens, sizes, headers
app       the parts put together            answers   errors as one line, with a status
requests, responses, run_models  what goes over the wire, typed
solvers   processes that compute            work      what they compute: scenarios, plans, fronts, comparisons
store     scenarios by their digest         intake    what a scenario from a page may not hold
jobs      runs in processes of their own    follow    a run's ledger, while it grows
serve     the command's part                static    the page
"""
