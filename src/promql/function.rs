//! What each function does to the series it is given, as far as cutting the range is concerned.
//!
//! The rule: a function that is not in this table makes the query opaque.

/// The kinds of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Gives a scalar, or a vector without labels.
    Scalar,
    /// Gives at most one series, whose labels are read off the query.
    Absent,
    /// Gives the series of its vector unchanged.
    Keep,
    /// Gives the series of its vector without their names.
    Drop,
    /// The same, and adds a label.
    DropAndLabel,
    /// Gives the series of its range vector unchanged.
    RangeKeep,
    /// Gives the series of its range vector without their names.
    Range,
    /// Rewrites one label of the series of its vector.
    Relabel,
    /// `info()`.
    Info,
    /// `start()`, `end()`, `range()` and `step()`.
    RangeValue,
}

/// The kind of the function of that name.
pub(super) fn of(name: &str) -> Option<Function> {
    let function = match name {
        "max_of" | "min_of" | "pi" | "scalar" | "time" | "vector" => Function::Scalar,
        "absent" | "absent_over_time" => Function::Absent,
        "sort" | "sort_by_label" | "sort_by_label_desc" | "sort_desc" => Function::Keep,
        "abs" | "acos" | "acosh" | "asin" | "asinh" | "atan" | "atanh" | "ceil" | "clamp" | "clamp_max"
        | "clamp_min" | "cos" | "cosh" | "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "deg"
        | "exp" | "floor" | "histogram_avg" | "histogram_count" | "histogram_fraction" | "histogram_quantile"
        | "histogram_stddev" | "histogram_stdvar" | "histogram_sum" | "hour" | "ln" | "log10" | "log2" | "minute"
        | "month" | "rad" | "round" | "sgn" | "sin" | "sinh" | "sqrt" | "start_timestamp" | "tan" | "tanh"
        | "timestamp" | "year" => Function::Drop,
        "histogram_quantiles" => Function::DropAndLabel,
        "first_over_time" | "last_over_time" => Function::RangeKeep,
        "avg_over_time"
        | "changes"
        | "count_over_time"
        | "delta"
        | "deriv"
        | "double_exponential_smoothing"
        | "holt_winters"
        | "idelta"
        | "increase"
        | "irate"
        | "mad_over_time"
        | "max_over_time"
        | "min_over_time"
        | "predict_linear"
        | "present_over_time"
        | "quantile_over_time"
        | "rate"
        | "resets"
        | "stddev_over_time"
        | "stdvar_over_time"
        | "sum_over_time"
        | "ts_of_first_over_time"
        | "ts_of_last_over_time"
        | "ts_of_max_over_time"
        | "ts_of_min_over_time" => Function::Range,
        "label_join" | "label_replace" => Function::Relabel,
        "info" => Function::Info,
        // `step()` as a value is 0 where the range has one instant (3.12 and later). In a duration it is the step.
        "end" | "range" | "start" | "step" => Function::RangeValue,
        _ => return None,
    };
    Some(function)
}

/// True for functions whose value changes from step to step even if their arguments don't, by name.
pub(super) fn varies(name: &str) -> bool {
    matches!(
        name,
        "day_of_month"
            | "day_of_week"
            | "day_of_year"
            | "days_in_month"
            | "end"
            | "hour"
            | "minute"
            | "month"
            | "predict_linear"
            | "range"
            | "start"
            | "step"
            | "time"
            | "timestamp"
            | "year"
    )
}

/// True for functions that fail at an instant at which a scalar argument is out of bounds.
pub(super) fn checks_its_arguments(name: &str) -> bool {
    matches!(name, "holt_winters" | "double_exponential_smoothing")
}
