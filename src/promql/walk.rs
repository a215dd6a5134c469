//! One walk over the tree of the analysis copy: what it reads, and whether the range may be cut.
//!
//! The parser's own visitor leaves out the parameter of an aggregation, so this one goes by hand through every kind
//! of node. It keeps its own stack: a node is entered, then its children, and when it is left, their shapes are there.
//!
//! A node is evaluated at instants no later than its *anchor*. The walk starts at the step itself; `@` moves the
//! anchor to a fixed time, an offset moves it back (a negative one ahead), and a subquery hands its own anchor down
//! to the expression it repeats, whose own future adds to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use promql_parser::parser::token::{
    T_ADD, T_ATAN2, T_BOTTOMK, T_COUNT_VALUES, T_DIV, T_LAND, T_LIMIT_RATIO, T_LIMITK, T_LOR, T_LUNLESS, T_MOD, T_MUL,
    T_POW, T_SUB, T_TOPK, TokenId,
};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call, Expr, LabelModifier, Offset, SubqueryExpr,
    VectorMatchCardinality, VectorSelector,
};

use super::Opaque;
use super::facts::{Facts, Kind, Reach, WholeRange};
use super::function::{self, Function};
use super::normalise::{Copy, UNKNOWN};
use super::pin::Pin;
use super::shape::{Labels, Names, Shape};

/// The facts of a tree; the copy it was parsed from and the pins of the client's text complete them.
pub(super) fn facts(tree: &Expr, copy: &Copy, pins: Vec<Pin>) -> Result<Facts, Opaque> {
    let mut walk = Walk { whole_range: copy.whole_range, has_trim: copy.has_trim, ..Walk::default() };
    let shape = walk.tree(tree)?;
    if walk.is_nailed && walk.looks_ahead {
        // In 2.42 `(x @ T)[r:s] offset -r` is off by the offset where the subquery begins at the range's own start.
        walk.must_stay_whole(WholeRange::WanderingWindow);
    }
    Ok(Facts {
        reach: walk.reach,
        widest_range_ms: shape.back_ms,
        whole_range: walk.whole_range,
        coarsest_step_ms: walk.coarsest_step_ms,
        pins,
        reads_series: walk.selectors > 0,
        kind: match bare(tree) {
            Expr::MatrixSelector(_) | Expr::Subquery(_) => Kind::Matrix,
            _ if shape.is_scalar => Kind::Scalar,
            _ => Kind::Vector,
        },
    })
}

/// The latest instant at which a node is evaluated, and the narrowest subquery around it.
#[derive(Clone, Copy)]
struct Anchor {
    base: Base,
    past_ms: i64,
    subquery_ms: Option<i64>,
}

#[derive(Clone, Copy)]
enum Base {
    Step,
    Time(i64),
    Start,
    End,
}

impl Anchor {
    fn moved(self, at: Option<&AtModifier>, offset: Option<&Offset>) -> Self {
        let base = match at {
            None => self.base,
            Some(AtModifier::Start) => Base::Start,
            Some(AtModifier::End) => Base::End,
            Some(AtModifier::At(time)) => Base::Time(milliseconds_of_time(*time)),
        };
        let past_ms = if at.is_some() { 0 } else { self.past_ms };
        let past_ms = match offset {
            None => past_ms,
            // Part of a millisecond counts on the side of reading later.
            Some(Offset::Pos(back)) => past_ms.saturating_sub(floor_ms(*back)),
            Some(Offset::Neg(ahead)) => past_ms.saturating_add(ceil_ms(*ahead)),
        };
        Self { base, past_ms, ..self }
    }

    /// The anchor of what a subquery repeats.
    fn inside(self, subquery: &SubqueryExpr) -> Self {
        let range_ms = floor_ms(subquery.range);
        let subquery_ms = Some(self.subquery_ms.map_or(range_ms, |around_ms| around_ms.min(range_ms)));
        Self { subquery_ms, ..self.moved(subquery.at.as_ref(), subquery.offset.as_ref()) }
    }
}

fn milliseconds_of_time(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => floor_ms(after),
        Err(before) => -floor_ms(before.duration()),
    }
}

fn floor_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn ceil_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// What is still to be done: a node to enter, or one to leave after so many children.
enum Step<'e> {
    Enter(&'e Expr, Anchor),
    Leave(&'e Expr, Anchor, usize),
}

fn list_children<'e>(node: &'e Expr, children: &mut Vec<&'e Expr>) {
    match node {
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => {}
        Expr::Paren(paren) => children.push(&paren.expr),
        Expr::Subquery(subquery) => children.push(&subquery.expr),
        Expr::Unary(unary) => children.push(&unary.expr),
        Expr::Binary(binary) => children.extend([&*binary.lhs, &*binary.rhs]),
        Expr::Aggregate(aggregate) => {
            children.push(&aggregate.expr);
            children.extend(aggregate.param.as_deref());
        }
        Expr::Call(call) => children.extend(call.args.args.iter().map(|argument| &**argument)),
    }
}

#[derive(Default)]
struct Walk {
    reach: Reach,
    whole_range: Option<WholeRange>,
    coarsest_step_ms: Option<i64>,
    has_trim: bool,
    is_nailed: bool,
    looks_ahead: bool,
    selectors: usize,
}

impl Walk {
    fn must_stay_whole(&mut self, reason: WholeRange) {
        self.whole_range = Some(reason.or_earlier(self.whole_range));
    }

    /// What may fail at one instant, inside of a subquery, may fail between two steps of the range, where no piece
    /// evaluates it: unless the steps lie so close that the subqueries of neighbouring steps meet.
    fn may_fail(&mut self, anchor: Anchor) {
        if let Some(range_ms) = anchor.subquery_ms {
            self.coarsest_step_ms = Some(self.coarsest_step_ms.map_or(range_ms, |known_ms| known_ms.min(range_ms)));
        }
    }

    fn reads(&mut self, anchor: Anchor) {
        let Anchor { base, past_ms, .. } = anchor;
        let latest = |known: Option<i64>, read_ms: i64| Some(known.map_or(read_ms, |known_ms| known_ms.max(read_ms)));
        match base {
            Base::Step => self.reach.past_instant_ms = self.reach.past_instant_ms.max(past_ms),
            Base::Time(time_ms) => {
                self.reach.absolute_ms = latest(self.reach.absolute_ms, time_ms.saturating_add(past_ms));
            }
            Base::Start => self.reach.past_start_ms = latest(self.reach.past_start_ms, past_ms),
            Base::End => self.reach.past_end_ms = latest(self.reach.past_end_ms, past_ms),
        }
    }

    /// The shape of a tree, from its leaves upwards.
    fn tree<'e>(&mut self, tree: &'e Expr) -> Result<Shape, Opaque> {
        let mut steps = vec![Step::Enter(tree, Anchor { base: Base::Step, past_ms: 0, subquery_ms: None })];
        let mut shapes: Vec<Shape> = Vec::new();
        let mut children: Vec<&'e Expr> = Vec::new();
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(node, anchor) => {
                    list_children(node, &mut children);
                    steps.push(Step::Leave(node, anchor, children.len()));
                    let inner = match node {
                        Expr::Subquery(subquery) => anchor.inside(subquery),
                        _ => anchor,
                    };
                    steps.extend(children.drain(..).rev().map(|child| Step::Enter(child, inner)));
                }
                Step::Leave(node, anchor, children) => {
                    let children = shapes.split_off(shapes.len() - children);
                    shapes.push(self.shape(node, anchor, children)?);
                }
            }
        }
        Ok(shapes.pop().expect("every node that is left leaves its shape, the root last"))
    }

    /// The shape of one node, given those of its children.
    fn shape(&mut self, node: &Expr, anchor: Anchor, mut children: Vec<Shape>) -> Result<Shape, Opaque> {
        const LISTED: &str = "as many shapes as children were listed";
        let shape = match node {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Shape { is_constant: true, ..Shape::scalar(true, 0) },
            Expr::Paren(_) => children.pop().expect(LISTED),
            Expr::VectorSelector(selector) => self.selector(selector, anchor),
            Expr::MatrixSelector(matrix) => {
                Shape { back_ms: ceil_ms(matrix.range), ..self.selector(&matrix.vs, anchor) }
            }
            Expr::Subquery(subquery) => {
                let inner = children.pop().expect(LISTED);
                self.is_nailed |= subquery.at.is_some();
                self.looks_ahead |= matches!(subquery.offset, Some(Offset::Neg(_)));
                let back_ms = inner.back_ms.saturating_add(ceil_ms(subquery.range));
                Shape { back_ms, is_invariant: subquery.at.is_some(), ..inner }
            }
            Expr::Unary(_) => self.unary(children.pop().expect(LISTED)),
            Expr::Binary(binary) => {
                let right = children.pop().expect(LISTED);
                let left = children.pop().expect(LISTED);
                self.binary(binary, anchor, left, right)
            }
            Expr::Aggregate(aggregate) => {
                let parameter = aggregate.param.as_ref().map(|_| children.pop().expect(LISTED));
                self.aggregate(aggregate, children.pop().expect(LISTED), parameter)
            }
            Expr::Call(call) => self.call(call, anchor, children)?,
            Expr::Extension(_) => return Err(Opaque::Unparsable),
        };
        Ok(shape)
    }

    fn selector(&mut self, selector: &VectorSelector, anchor: Anchor) -> Shape {
        self.selectors += 1;
        self.is_nailed |= selector.at.is_some();
        self.reads(anchor.moved(selector.at.as_ref(), selector.offset.as_ref()));
        Shape::selector(selector)
    }

    fn unary(&mut self, inner: Shape) -> Shape {
        if inner.names == Names::Any {
            self.must_stay_whole(WholeRange::MayCollide);
        }
        inner.nameless()
    }

    fn binary(&mut self, binary: &BinaryExpr, anchor: Anchor, left: Shape, right: Shape) -> Shape {
        let is_set = matches!(binary.op.id(), T_LAND | T_LOR | T_LUNLESS);
        let between_vectors = !left.is_scalar && !right.is_scalar;
        if !is_set && (between_vectors || left.names == Names::Any || right.names == Names::Any) {
            self.may_fail(anchor);
        }
        let is_constant = left.is_constant && right.is_constant;
        let is_invariant = left.is_invariant && right.is_invariant;
        let back_ms = left.back_ms.max(right.back_ms);
        let modifier = binary.modifier.as_ref();
        let drops = self.dropping(binary.op.id(), modifier);
        let shape = match (binary.op.id(), left.is_scalar, right.is_scalar) {
            (T_LAND | T_LUNLESS, _, _) | (_, true, true) => left,
            (T_LOR, _, _) => left.or(&right),
            (_, true, false) => drops.apply(right),
            (_, false, true) => drops.apply(left),
            (_, false, false) => matched(drops, left, right, modifier),
        };
        Shape { is_constant, is_invariant, back_ms, ..shape }
    }

    fn dropping(&self, operator: TokenId, modifier: Option<&BinModifier>) -> Dropping {
        let returns_bool = modifier.is_some_and(|modifier| modifier.return_bool);
        match operator {
            T_ADD | T_SUB | T_MUL | T_DIV | T_MOD | T_POW => Dropping::Always,
            _ if returns_bool => Dropping::Always,
            // Kept in 2.42, dropped in 3.14.
            T_ATAN2 => Dropping::Perhaps,
            // Perhaps not a comparison at all.
            _ if self.has_trim => Dropping::Perhaps,
            _ => Dropping::Never,
        }
    }

    /// An aggregation. Its parameter needs care in every version: it doesn't count when the engine decides that the
    /// whole is invariant (`topk(scalar(x), y @ 0)` takes `x` at the first instant of the range), it isn't searched
    /// for `start()`, and from 3.x on its smallest and largest value over the range decide about early returns,
    /// errors and the text of warnings. So anything but a constant keeps the range whole.
    fn aggregate(&mut self, aggregate: &AggregateExpr, mut inner: Shape, parameter: Option<Shape>) -> Shape {
        if let Some(parameter) = parameter {
            inner.back_ms = inner.back_ms.max(parameter.back_ms);
            if !parameter.is_constant {
                self.must_stay_whole(WholeRange::VaryingParameter);
            }
        }
        if aggregate.op.id() == T_LIMITK {
            self.must_stay_whole(WholeRange::Limitk);
        }
        match (aggregate.op.id(), &aggregate.modifier) {
            (T_TOPK | T_BOTTOMK | T_LIMITK | T_LIMIT_RATIO, _) => inner,
            (operator, grouping) => {
                let shape = match grouping {
                    Some(by @ LabelModifier::Include(_)) => inner.grouped(by),
                    Some(without @ LabelModifier::Exclude(_)) => inner.grouped(without).nameless(),
                    None => inner.grouped(&LabelModifier::include(Vec::new())),
                };
                if operator == T_COUNT_VALUES { relabelled(shape, aggregate.param.as_deref()) } else { shape }
            }
        }
    }

    fn call(&mut self, call: &Call, anchor: Anchor, mut shapes: Vec<Shape>) -> Result<Shape, Opaque> {
        let name = call.func.name;
        let kind = function::of(name).ok_or(Opaque::UnknownFunction)?;
        let is_invariant = !function::varies(name) && shapes.iter().all(|shape| shape.is_invariant);
        let back_ms = shapes.iter().map(|shape| shape.back_ms).max().unwrap_or_default();
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| bare(argument)).collect();
        self.timestamp(name, &arguments, anchor);
        if !is_invariant && arguments.iter().any(|argument| is_nailed_range(argument)) {
            // Before 2.51 (prometheus#13559) a nailed window is placed by the first instant of the range and moves
            // on with the step, unless the call as a whole is found invariant.
            self.must_stay_whole(WholeRange::WanderingWindow);
        }
        let vector = shapes.iter().position(|shape| !shape.is_scalar).map(|index| shapes.swap_remove(index));
        let vector = vector.unwrap_or_else(|| Shape::scalar(is_invariant, back_ms));
        let shape = match kind {
            Function::Scalar => Shape::scalar(is_invariant, back_ms),
            Function::Absent => Shape { names: Names::None, labels: Labels::none(), ..vector },
            Function::Keep | Function::RangeKeep => vector,
            Function::Drop => {
                if vector.names == Names::Any {
                    self.may_fail(anchor);
                }
                vector.nameless()
            }
            Function::DropAndLabel => Shape { labels: Labels::any(), ..vector.nameless() },
            Function::Range => {
                if function::checks_its_arguments(name) {
                    self.may_fail(anchor);
                }
                if vector.names == Names::Any {
                    self.must_stay_whole(WholeRange::MayCollide);
                }
                vector.nameless()
            }
            Function::Relabel => {
                self.may_fail(anchor);
                self.relabel(vector, arguments.get(1).copied())
            }
            Function::Info => {
                self.must_stay_whole(WholeRange::Info);
                Shape { names: Names::Any, labels: Labels::any(), ..vector }
            }
            Function::RangeValue => {
                self.must_stay_whole(WholeRange::RangeValue);
                Shape::scalar(false, back_ms)
            }
        };
        let is_scalar = kind == Function::RangeValue || (kind == Function::Scalar && name != "vector");
        Ok(Shape { is_scalar, is_constant: false, is_invariant, back_ms, ..shape })
    }

    /// `timestamp(x @ T offset o)` forgets the offset in 2.42 and reads at `T`.
    fn timestamp(&mut self, name: &str, arguments: &[&Expr], anchor: Anchor) {
        if let ("timestamp", [Expr::VectorSelector(selector)]) = (name, arguments)
            && selector.at.is_some()
        {
            self.reads(anchor.moved(selector.at.as_ref(), None));
        }
    }

    /// From 2.51 (prometheus, `evalLabelReplace`) to 3.8 the rewritten series are compared over the whole range,
    /// like those of a range function. They stay apart if the label they are rewritten in did not set them apart.
    fn relabel(&mut self, vector: Shape, label: Option<&Expr>) -> Shape {
        let is_safe = matches!(label, Some(Expr::StringLiteral(label)) if vector.is_fixed(&label.val));
        if !is_safe {
            self.must_stay_whole(WholeRange::LabelRewrite);
        }
        relabelled(vector, label)
    }
}

/// Whether an operator drops the metric name.
#[derive(Clone, Copy)]
enum Dropping {
    Always,
    Perhaps,
    Never,
}

impl Dropping {
    fn apply(self, shape: Shape) -> Shape {
        match self {
            Self::Always => shape.nameless(),
            Self::Perhaps => shape.perhaps_nameless(),
            Self::Never => shape,
        }
    }
}

/// The series of an operator between two vectors: those of its many side, or of the left.
fn matched(drops: Dropping, left: Shape, right: Shape, modifier: Option<&BinModifier>) -> Shape {
    let Some(modifier) = modifier else { return drops.apply(left) };
    let is_filled = modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some();
    let filled = |shape: Shape| {
        // A filled side has the other side's labels, without a name.
        if is_filled { Shape { labels: Labels::any(), ..shape.perhaps_nameless() } } else { shape }
    };
    match &modifier.card {
        VectorMatchCardinality::ManyToOne(labels) => filled(drops.apply(left)).relabelled(&labels.labels),
        VectorMatchCardinality::OneToMany(labels) => filled(drops.apply(right)).relabelled(&labels.labels),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {
            let shape = filled(drops.apply(left));
            modifier.matching.iter().fold(shape, Shape::grouped)
        }
    }
}

/// The shape with the label that a string argument names written anew; with any label, if it isn't known which.
fn relabelled(shape: Shape, label: Option<&Expr>) -> Shape {
    match label.map(bare) {
        Some(Expr::StringLiteral(label)) if !label.val.contains(UNKNOWN) => {
            shape.relabelled(std::slice::from_ref(&label.val))
        }
        _ => Shape { names: Names::Any, labels: Labels::any(), ..shape },
    }
}

/// The expression without its parentheses.
fn bare(expression: &Expr) -> &Expr {
    let mut expression = expression;
    while let Expr::Paren(paren) = expression {
        expression = &paren.expr;
    }
    expression
}

fn is_nailed_range(expression: &Expr) -> bool {
    match expression {
        Expr::MatrixSelector(matrix) => matrix.vs.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        _ => false,
    }
}
