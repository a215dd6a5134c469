"""A dashboard's panels, and the times at which Grafana would ask for them.

Need: the questions a real dashboard asks, phrased as Grafana phrases them.
Rule: steps come from Grafana's own rounding table; start and end are floored to the step; `$__rate_interval` is
max(step + scrape interval, 4 × scrape interval). No panel adds up the results of an operator or a function other than
a range function: Prometheus adds those up in the random order of a Go map, so that its last digit differs between two
identical requests.
"""

from series import DAY

RANGES = (("1h", 3600), ("1d", DAY), ("7d", 7 * DAY), ("30d", 30 * DAY))
MAX_DATA_POINTS = 1000  # a panel of half a wide screen
MIN_STEP = 15  # the scrape interval that a new Grafana datasource assumes
PANELS = (
    ("requests by code", 'sum by (code) (rate(http_requests_total[$__rate_interval]))'),
    ("error ratio", 'sum by (job) (rate(http_requests_total{code=~"5.."}[$__rate_interval]))'
                    ' / sum by (job) (rate(http_requests_total[$__rate_interval]))'),
    ("latency p50", 'histogram_quantile(0.5, sum by (job, le)'
                    ' (rate(http_request_duration_seconds_bucket[$__rate_interval])))'),
    ("latency p99", 'histogram_quantile(0.99, sum by (job, le)'
                    ' (rate(http_request_duration_seconds_bucket[$__rate_interval])))'),
    ("traffic / last week", 'sum by (job) (rate(http_requests_total[$__rate_interval]))'
                            ' / sum by (job) (rate(http_requests_total[$__rate_interval] offset 7d))'),
    ("peak hour (subquery)", 'max_over_time(sum(rate(http_requests_total[5m]))[1h:5m])'),
    ("cpu by mode", 'sum by (mode) (rate(node_cpu_seconds_total[$__rate_interval]))'),
    ("busiest hosts", 'topk(3, 1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])))'),
    ("top pods by cpu", 'topk(5, sum by (pod) (rate(container_cpu_usage_seconds_total[$__rate_interval])))'),
    ("memory in use", '1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes'),
    ("network received", 'sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[$__rate_interval])) * 8'),
    ("load", 'max by (instance) (node_load5)'),
    ("disk in four days", 'predict_linear(node_filesystem_avail_bytes{mountpoint="/"}[6h], 4 * 86400)'),
    ("night jobs", 'batch_job_progress_ratio'),
)
ROUNDED_MS = (  # Grafana's roundInterval: below the limit, this interval
    (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000), (7500, 5000),
    (12500, 10000), (17500, 15000), (25000, 20000), (45000, 30000), (90000, 60000), (210000, 120000), (450000, 300000),
    (750000, 600000), (1050000, 900000), (1500000, 1200000), (2700000, 1800000), (5400000, 3600000),
    (9000000, 7200000), (16200000, 10800000), (32400000, 21600000), (86400000, 43200000), (604800000, 86400000),
)


def step_for(seconds):
    """Grafana's step in seconds for a range, by its rounding table and the datasource's lowest step."""
    exact_ms = seconds * 1000 / MAX_DATA_POINTS
    rounded = next((to for limit, to in ROUNDED_MS if exact_ms < limit), 604800000)
    return max(MIN_STEP, rounded // 1000)


def duration(seconds):
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def request(query, seconds, end, interval):
    """The form parameters of one panel at one range."""
    step = step_for(seconds)
    rate_interval = max(step + interval, 4 * interval)
    return {
        "query": query.replace("$__rate_interval", duration(rate_interval)),
        "start": str((end - seconds) // step * step),
        "end": str(end // step * step),
        "step": str(step),
    }
