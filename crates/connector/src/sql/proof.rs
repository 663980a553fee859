//! Which count proves which statement.
//!
//! The rule it keeps: a count proves a statement only if it certainly counts every row that the statement should have
//! changed.

use erasure_statement::{Column, Comparison, Condition, Inner, NewValue, Operand, Select, Statement, Table};

use super::Database;

/// True if the count certainly finds every row that the statement leaves although it should not: of a deletion, every
/// row; of an update, every row with an old value in one of the columns.
pub(crate) fn covers(count: &Select, statement: &Statement, database: Database) -> bool {
    let table = statement.table();
    if count.table.full(database) != table.full(database) {
        return false;
    }
    let plain = |condition: &Condition| {
        condition.conjuncts().into_iter().map(|one| without_table(one, table)).collect::<Vec<_>>()
    };
    let rows = plain(statement.condition());
    // A count with fewer conditions counts more rows.
    let mut more = plain(&count.condition).into_iter().filter(|condition| !rows.contains(condition));
    match statement {
        Statement::Delete(_) => more.next().is_none(),
        Statement::Update(update) => more.all(|condition| {
            let old = condition.alternatives();
            update.set.iter().all(|(column, value)| {
                let wanted = old_value(&own(column, table), value);
                wanted.is_some_and(|wanted| old.iter().any(|one| without_table(one, table) == wanted))
            })
        }),
        Statement::Select(_) => false,
    }
}

/// The condition that a row has an old value in a column. `None` if no condition can tell.
pub(crate) fn old_value(column: &Column, value: &NewValue) -> Option<Condition> {
    let column = column.clone();
    match value {
        NewValue::Null => Some(Condition::Null(column, true)),
        NewValue::Literal(literal) => {
            let value = Operand::Literal(literal.clone());
            Some(Condition::Compare(Operand::Column(column), Comparison::Unequal, value))
        }
        // In a pattern, _ and % stand for other characters.
        NewValue::Concat(text, _) if text.is_empty() || text.contains(['_', '%']) => None,
        NewValue::Concat(text, _) => Some(Condition::Like(column, true, format!("{text}%"))),
    }
}

fn own(column: &Column, table: &Table) -> Column {
    let is_own = column.table.as_ref() == Some(&table.name);
    Column { table: column.table.clone().filter(|_| !is_own), name: column.name.clone() }
}

/// The condition with its own table's columns written without the table, and without outer parentheses.
pub(super) fn without_table(condition: &Condition, table: &Table) -> Condition {
    let boxed = |inner: &Condition| Box::new(without_table(inner, table));
    match condition {
        Condition::And(one, two) => Condition::And(boxed(one), boxed(two)),
        Condition::Or(one, two) => Condition::Or(boxed(one), boxed(two)),
        Condition::Not(inner) => Condition::Not(boxed(inner)),
        Condition::Nested(inner) => Condition::Nested(boxed(inner)),
        Condition::Compare(one, how, two) => Condition::Compare(operand(one, table), *how, operand(two, table)),
        Condition::Null(column, negated) => Condition::Null(own(column, table), *negated),
        Condition::Like(column, negated, text) => Condition::Like(own(column, table), *negated, text.clone()),
        Condition::OneOf(column, negated, values) => Condition::OneOf(own(column, table), *negated, values.clone()),
        Condition::Within(column, inner) => {
            let Inner { column: of, table: from, condition } = &**inner;
            let inner = Inner { column: of.clone(), table: from.clone(), condition: condition.clone() };
            Condition::Within(own(column, table), Box::new(inner))
        }
    }
}

fn operand(operand: &Operand, table: &Table) -> Operand {
    match operand {
        Operand::Column(column) => Operand::Column(own(column, table)),
        Operand::Lower(inner) => Operand::Lower(Box::new(self::operand(inner, table))),
        other => other.clone(),
    }
}
