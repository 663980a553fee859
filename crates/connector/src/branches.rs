//! A condition as a list of alternatives, so that two conditions can be compared.
//!
//! The rule it keeps: what is not proven from the data of two conditions is not assumed. Two conditions are disjoint,
//! or one implies the other, only if these functions can show it.

use serde_json::Value;

use crate::model::{Matcher, Pointer, Test, Type};

/// The most alternatives of one condition.
const MOST: usize = 64;

/// One alternative: everything in it must hold.
#[derive(Debug, Clone)]
pub(crate) struct Branch<'m> {
    /// The permitted statuses. `None`: no status is named, which means 200 to 299. A reply with an error's status is
    /// the vendor's error, whatever its body says, unless a file names the status.
    pub status: Option<Vec<u16>>,
    /// The other conditions.
    pub atoms: Vec<&'m Matcher>,
}

/// The alternatives of a condition. `None` if there are too many to compare.
pub(crate) fn of(matcher: &Matcher) -> Option<Vec<Branch<'_>>> {
    match matcher {
        Matcher::Status(statuses) => Some(vec![Branch { status: Some(statuses.clone()), atoms: Vec::new() }]),
        Matcher::Any(members) => {
            let mut all = Vec::new();
            for member in members {
                all.extend(of(member)?);
            }
            (all.len() <= MOST).then_some(all)
        }
        Matcher::All(members) => {
            let mut all = vec![Branch { status: None, atoms: Vec::new() }];
            for member in members {
                let more = of(member)?;
                if all.len() * more.len() > MOST {
                    return None;
                }
                all = all.iter().flat_map(|one| more.iter().map(|other| one.and(other))).collect();
            }
            Some(all)
        }
        leaf => Some(vec![Branch { status: None, atoms: vec![leaf] }]),
    }
}

impl<'m> Branch<'m> {
    fn and(&self, other: &Branch<'m>) -> Branch<'m> {
        let status = match (&self.status, &other.status) {
            (Some(one), Some(two)) => Some(one.iter().filter(|status| two.contains(status)).copied().collect()),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        Branch { status, atoms: self.atoms.iter().chain(&other.atoms).copied().collect() }
    }

    /// True if a reply with this status can satisfy the branch.
    pub fn allows(&self, status: u16) -> bool {
        self.status.as_ref().map_or((200..300).contains(&status), |statuses| statuses.contains(&status))
    }

    /// True if it holds of 404 or 410 alone.
    pub fn only_absent(&self) -> bool {
        self.status.as_ref().is_some_and(|all| !all.is_empty() && all.iter().all(|status| is_absent(*status)))
    }

    /// True if it certainly holds of no reply.
    pub fn is_impossible(&self) -> bool {
        self.status.as_ref().is_some_and(Vec::is_empty)
            || self.atoms.iter().enumerate().any(|(i, one)| self.atoms[..i].iter().any(|two| contradict(one, two)))
    }

    /// True if a status satisfies both.
    fn shares_a_status(&self, other: &Branch<'_>) -> bool {
        match (&self.status, &other.status) {
            (None, None) => true,
            (Some(named), _) => named.iter().any(|status| other.allows(*status)),
            (None, Some(named)) => named.iter().any(|status| self.allows(*status)),
        }
    }

    /// True if certainly no reply satisfies both.
    fn excludes(&self, other: &Branch<'_>) -> bool {
        !self.shares_a_status(other) || self.atoms.iter().any(|one| other.atoms.iter().any(|two| contradict(one, two)))
    }

    /// True if certainly every reply that satisfies this one satisfies the other.
    fn implies(&self, other: &Branch<'_>) -> bool {
        let statuses = match &self.status {
            None => (200..300).all(|status| other.allows(status)),
            Some(named) => named.iter().all(|status| other.allows(*status)),
        };
        statuses && other.atoms.iter().all(|two| self.atoms.iter().any(|one| implies(one, two)))
    }
}

/// The statuses that speak of an absence.
pub(crate) fn is_absent(status: u16) -> bool {
    status == 404 || status == 410
}

/// True if certainly no reply satisfies both conditions.
pub(crate) fn are_disjoint(one: &Matcher, two: &Matcher) -> bool {
    let (Some(one), Some(two)) = (of(one), of(two)) else { return false };
    one.iter().all(|one| two.iter().all(|two| one.excludes(two)))
}

/// True if certainly every reply that satisfies the one satisfies the other.
pub(crate) fn covers(wide: &Matcher, narrow: &Matcher) -> bool {
    let (Some(wide), Some(narrow)) = (of(wide), of(narrow)) else { return false };
    narrow.iter().all(|narrow| narrow.is_impossible() || wide.iter().any(|wide| narrow.implies(wide)))
}

/// True if certainly no reply satisfies the condition.
pub(crate) fn is_impossible(matcher: &Matcher) -> bool {
    of(matcher).is_some_and(|branches| branches.iter().all(Branch::is_impossible))
}

fn contradict(one: &Matcher, two: &Matcher) -> bool {
    match (one, two) {
        (Matcher::Empty, Matcher::At(..)) | (Matcher::At(..), Matcher::Empty) => true,
        (Matcher::Header(a, x), Matcher::Header(b, y)) => a == b && x != y,
        (Matcher::At(p, x), Matcher::At(q, y)) if p == q => tests_contradict(x, y),
        (Matcher::At(p, x), Matcher::At(q, y)) => below(p, x, q, y) || below(q, y, p, x),
        _ => false,
    }
}

/// True if the place `q` lies below `p`, and the test of `p` leaves no room for it.
fn below(p: &Pointer, x: &Test, q: &Pointer, y: &Test) -> bool {
    if p.0.len() >= q.0.len() || !q.0.starts_with(&p.0) {
        return false;
    }
    let is_leaf = match x {
        Test::Is(_) | Test::In(_) | Test::Begins(_) | Test::Exists(false) => true,
        Test::Type(of) => !matches!(of, Type::List | Type::Object),
        _ => false,
    };
    // `exists = false` needs only the object or list that would have the place.
    is_leaf || (*x == Test::Count(0) && *y != Test::Exists(false))
}

fn tests_contradict(one: &Test, two: &Test) -> bool {
    let absent = Test::Exists(false);
    if *one == absent || *two == absent {
        return one != two;
    }
    if let (Some(one), Some(two)) = (types(one), types(two))
        && !one.iter().any(|of| two.contains(of))
    {
        return true;
    }
    match (values(one), values(two)) {
        (Some(one), Some(two)) => return !one.iter().any(|value| two.contains(value)),
        (Some(values), None) => return values.iter().all(|value| !value_may_pass(value, two)),
        (None, Some(values)) => return values.iter().all(|value| !value_may_pass(value, one)),
        (None, None) => {}
    }
    match (one, two) {
        (Test::Count(a), Test::Count(b)) => a != b,
        (Test::Count(0), Test::Has(_)) | (Test::Has(_), Test::Count(0)) => true,
        (Test::Begins(a), Test::Begins(b)) => !a.starts_with(b.as_str()) && !b.starts_with(a.as_str()),
        _ => false,
    }
}

/// False if a value certainly fails a test that names no values.
fn value_may_pass(value: &Value, test: &Test) -> bool {
    match test {
        Test::Type(of) => type_of(value) == *of && !(*of == Type::Text && value == ""),
        Test::Begins(start) => value.as_str().is_some_and(|text| text.starts_with(start.as_str())),
        _ => true,
    }
}

/// The types of the values that can pass; `None` for all.
fn types(test: &Test) -> Option<Vec<Type>> {
    Some(match test {
        Test::Is(value) => vec![type_of(value)],
        Test::In(values) => values.iter().map(type_of).collect(),
        Test::Type(of) => vec![*of],
        Test::Count(_) => vec![Type::List, Type::Object],
        Test::Has(_) => vec![Type::List],
        Test::Begins(_) => vec![Type::Text],
        Test::Exists(_) => return None,
    })
}

fn values(test: &Test) -> Option<&[Value]> {
    match test {
        Test::Is(value) => Some(std::slice::from_ref(value)),
        Test::In(values) => Some(values),
        _ => None,
    }
}

/// A value's type; an empty text is a text here.
pub(crate) fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::Text,
        Value::Array(_) => Type::List,
        Value::Object(_) => Type::Object,
    }
}

fn implies(one: &Matcher, two: &Matcher) -> bool {
    if one == two {
        return true;
    }
    let (Matcher::At(p, x), Matcher::At(q, y)) = (one, two) else { return false };
    if *x == Test::Exists(false) {
        return false;
    }
    if *y == Test::Exists(true) {
        return p.0.starts_with(&q.0);
    }
    if p != q {
        return false;
    }
    match (values(x), values(y)) {
        (Some(one), Some(two)) => return one.iter().all(|value| two.contains(value)),
        (Some(values), None) => {
            return matches!(y, Test::Type(_) | Test::Begins(_)) && values.iter().all(|value| value_may_pass(value, y));
        }
        _ => {}
    }
    match (x, y) {
        (Test::Begins(one), Test::Begins(two)) => one.starts_with(two.as_str()),
        (Test::Begins(_), Test::Type(Type::Text)) | (Test::Has(_), Test::Type(Type::List)) => true,
        _ => false,
    }
}
