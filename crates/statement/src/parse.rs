//! From a statement's text to data.
//!
//! The rule it keeps: only what is understood passes. The data is written again and compared with the file's words, so
//! that no word of the file is dropped.

use sqlparser::ast::{
    AssignmentTarget, BinaryOperator, Expr, FromTable, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, InTarget, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement as Parsed, TableFactor,
    TableWithJoins, UnaryOperator, Value,
};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::Database;
use crate::statement::{
    Column, Comparison, Condition, Delete, Inner, Literal, Name, NewValue, Operand, Select, Statement, Table, Update,
};

/// The longest statement.
const LONGEST: usize = 8 * 1024;
/// The deepest nesting of conditions.
const DEEPEST: usize = 16;
/// The words between conditions.
const LINKS: [&str; 3] = ["and", "or", "not"];
/// The most conditions: each is one level of data.
const MOST: usize = 100;
/// The stack of the parser, which calls itself for each level: 50 levels at most, of 60 KiB where it is not optimised.
const STACK: usize = 16 * 1024 * 1024;

/// What is wrong with a statement, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub problem: String,
    pub instead: String,
}

type Read<T> = Result<T, Flaw>;

fn flaw<T>(problem: impl Into<String>, instead: impl Into<String>) -> Read<T> {
    Err(Flaw { problem: problem.into(), instead: instead.into() })
}

/// Reads one statement.
pub fn statement(text: &str, database: Database) -> Read<Statement> {
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || read(text, database));
        // The parser's panic may repeat the text.
        reading.ok().and_then(|reading| reading.join().ok()).unwrap_or_else(|| unreadable(database))
    })
}

fn unreadable<T>(database: Database) -> Read<T> {
    flaw(format!("is not SQL that {} reads", database.title()), "mend the statement")
}

fn read(text: &str, database: Database) -> Read<Statement> {
    if text.len() > LONGEST {
        return flaw("is longer than 8 KiB", "write shorter statements");
    }
    let tokens = tokens(text, database)?;
    let depth = tokens.iter().try_fold(0_usize, |depth, token| match token {
        Token::LParen if depth == DEEPEST => None,
        Token::LParen => Some(depth + 1),
        Token::RParen => Some(depth.saturating_sub(1)),
        _ => Some(depth),
    });
    if depth.is_none() {
        return flaw("has too many parentheses inside each other", "write a simpler condition");
    }
    let is_link = |token: &&Token| matches!(token, Token::Word(word) if LINKS.iter().any(|link| word.value.eq_ignore_ascii_case(link)));
    if tokens.iter().filter(is_link).count() > MOST {
        return flaw("has more than 100 conditions", "write more statements");
    }
    let dialect = dialect(database);
    let parsed = Parser::new(&*dialect).with_recursion_limit(50).with_tokens(tokens.clone()).parse_statements();
    let statement = match parsed.as_deref() {
        Ok([one]) => Reader { database }.statement(one)?,
        Ok([]) => return flaw("is empty", "write one statement"),
        Ok(_) => return flaw("is more than one statement", "write each statement as an entry of its own"),
        // The parser's message may repeat the text.
        Err(_) => return unreadable(database),
    };
    let understood = self::tokens(&statement.shown(database), database)?;
    if words(&understood, database) != words(&tokens, database) {
        return flaw(
            "has words that have no place in such a statement",
            "write only: delete from TABLE where …; update TABLE set COLUMN = VALUE where …; select COLUMN as NAME from \
             TABLE where …",
        );
    }
    Ok(statement)
}

fn dialect(database: Database) -> Box<dyn Dialect> {
    match database {
        Database::Postgresql => Box::new(PostgreSqlDialect {}),
        Database::Mysql => Box::new(MySqlDialect {}),
    }
}

/// The tokens, if each is of a kind that all readers of SQL understand in the same way.
fn tokens(text: &str, database: Database) -> Read<Vec<Token>> {
    // Comments hide text from a reviewer, and some databases execute them; a backslash ends a text in some settings.
    for (sign, name) in [("--", "a comment"), ("/*", "a comment"), ("#", "a comment"), ("\\", "a backslash")] {
        if text.contains(sign) {
            return flaw(format!("has {name}"), "write the statement without it; comments belong before the entry");
        }
    }
    let Ok(tokens) = Tokenizer::new(&*dialect(database), text).tokenize() else {
        return flaw("is not SQL: a quote has no end, or a character has no meaning", "mend the statement");
    };
    let tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    // MySQL permits $ in names; such names are refused, and so $NAME is always an identifier of the file.
    let placeholder = |token| match token {
        Token::Word(Word { value, quote_style: None, .. }) if value.starts_with('$') => Token::Placeholder(value),
        other => other,
    };
    let tokens: Vec<_> = tokens.map(placeholder).collect();
    for token in &tokens {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match token {
            Token::Word(Word { value, quote_style, .. })
                if plain(value) && !value.is_empty() && quote_style.is_none_or(|quote| quote == database.quote()) => {}
            Token::Number(digits, false) if digits.chars().all(|c| c.is_ascii_digit()) => {}
            Token::SingleQuotedString(text)
                if text.chars().all(|c| c.is_ascii_alphanumeric() || " _-.,:@+/%()".contains(c)) => {}
            Token::SingleQuotedString(_) => {
                return flaw("has a text with unusual characters", "write letters, digits and . , : - _ @ alone");
            }
            Token::Placeholder(name) if name.len() > 1 && plain(&name[1..]) => {}
            Token::Comma
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Mul
            | Token::LParen
            | Token::RParen
            | Token::Period => {}
            Token::SemiColon => {
                return flaw("has a semicolon", "write one statement in each entry, without a semicolon");
            }
            other => {
                let other: String = other.to_string().chars().take(20).collect();
                return flaw(
                    format!("has {other:?}, which such a statement does not need"),
                    "write names, texts, numbers, $NAME, and ( ) , . = <> < > <= >=",
                );
            }
        }
    }
    Ok(tokens)
}

/// The tokens for a comparison: without quotes around names, and in the case that the database gives them.
fn words(tokens: &[Token], database: Database) -> Vec<String> {
    let word = |token: &Token| match token {
        Token::Word(Word { value, quote_style: None, .. }) => value.to_ascii_lowercase(),
        Token::Word(Word { value, .. }) if database == Database::Mysql => value.to_ascii_lowercase(),
        Token::Word(Word { value, .. }) => value.clone(),
        other => other.to_string(),
    };
    tokens.iter().map(word).collect()
}

struct Reader {
    database: Database,
}

impl Reader {
    fn statement(&self, parsed: &Parsed) -> Read<Statement> {
        const NO_WHERE: &str = "has no WHERE: it would be about every row of the table";
        const BIND: &str = "write where COLUMN = $NAME with the name of an identifier";
        match parsed {
            Parsed::Delete(delete) => {
                let from = match &delete.from {
                    FromTable::WithFromKeyword(from) => from,
                    FromTable::WithoutKeyword(_) => return flaw("has no FROM", "write delete from TABLE where …"),
                };
                let Some(condition) = &delete.selection else { return flaw(NO_WHERE, BIND) };
                let (table, condition) = (self.only_table(from)?, self.condition(condition, None)?);
                Ok(Statement::Delete(Delete { table, condition }))
            }
            Parsed::Update(update) => {
                let table = self.only_table(std::slice::from_ref(&update.table))?;
                let Some(condition) = &update.selection else { return flaw(NO_WHERE, BIND) };
                let condition = self.condition(condition, None)?;
                let mut set = Vec::new();
                for assignment in &update.assignments {
                    let AssignmentTarget::ColumnName(target) = &assignment.target else {
                        return flaw("sets several columns at once", "write COLUMN = VALUE for each column");
                    };
                    let target = match &target.0[..] {
                        [ObjectNamePart::Identifier(name)] => Column { table: None, name: self.column_name(name) },
                        _ => return flaw("sets a column with a prefix", "write COLUMN = VALUE"),
                    };
                    set.push((target, self.new_value(&assignment.value)?));
                }
                Ok(Statement::Update(Update { table, set, condition }))
            }
            Parsed::Query(query) => self.select(query).map(Statement::Select),
            _ => flaw(
                "is no DELETE, UPDATE or SELECT: a connector changes rows, never tables, rights or settings",
                "write delete from TABLE where … or update TABLE set … where …",
            ),
        }
    }

    fn select(&self, query: &Query) -> Read<Select> {
        let SetExpr::Select(select) = &*query.body else {
            return flaw("is a combined SELECT", "write a simple select … from TABLE where …");
        };
        let table = self.only_table(&select.from)?;
        let Some(condition) = &select.selection else {
            return flaw("has no WHERE: it would read every row", "write where COLUMN = $NAME");
        };
        let condition = self.condition(condition, None)?;
        if let [SelectItem::UnnamedExpr(Expr::Function(function))] = &select.projection[..]
            && is_count(function)
        {
            return Ok(Select { columns: Vec::new(), table, condition });
        }
        let mut columns = Vec::new();
        for item in &select.projection {
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
                _ => return flaw("selects more than named columns", "name each column: select id as user_id, email"),
            };
            let Some(column) = self.column(expr) else {
                return flaw("selects a value that is no column", "write COLUMN as NAME");
            };
            let name = alias.map_or_else(|| column.name.clone(), |alias| self.column_name(alias));
            columns.push((column, name));
        }
        Ok(Select { columns, table, condition })
    }

    fn only_table(&self, from: &[TableWithJoins]) -> Read<Table> {
        let [TableWithJoins { relation: TableFactor::Table { name, .. }, joins }] = from else {
            return flaw("is not about one table", "write one table; others in COLUMN in (select … from …)");
        };
        if !joins.is_empty() {
            return flaw("joins tables", "write COLUMN in (select TABLE.COLUMN from TABLE where …) instead");
        }
        self.table(name)
    }

    fn table(&self, name: &ObjectName) -> Read<Table> {
        match &name.0[..] {
            [ObjectNamePart::Identifier(name)] => Ok(Table { schema: None, name: self.table_name(name) }),
            [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(name)] => {
                Ok(Table { schema: Some(self.table_name(schema)), name: self.table_name(name) })
            }
            _ => flaw("has a table's name in three parts", "write SCHEMA.TABLE"),
        }
    }

    fn table_name(&self, name: &Ident) -> Name {
        match self.database {
            Database::Postgresql => self.column_name(name),
            Database::Mysql => Name(name.value.clone()),
        }
    }

    fn column_name(&self, name: &Ident) -> Name {
        let is_folded = name.quote_style.is_none() || self.database == Database::Mysql;
        Name(if is_folded { name.value.to_ascii_lowercase() } else { name.value.clone() })
    }

    fn column(&self, expr: &Expr) -> Option<Column> {
        match expr {
            Expr::Identifier(name) => Some(Column { table: None, name: self.column_name(name) }),
            Expr::CompoundIdentifier(names) => match &names[..] {
                [table, name] => Some(Column { table: Some(self.table_name(table)), name: self.column_name(name) }),
                _ => None,
            },
            _ => None,
        }
    }

    fn literal(&self, expr: &Expr) -> Option<Literal> {
        let Expr::Value(value) = expr else { return None };
        match &value.value {
            Value::SingleQuotedString(text) => Some(Literal::Text(text.clone())),
            Value::Number(digits, false) => Some(Literal::Number(digits.clone())),
            Value::Boolean(value) => Some(Literal::Bool(*value)),
            _ => None,
        }
    }

    fn new_value(&self, expr: &Expr) -> Read<NewValue> {
        const KNOWN: &str = "write null, a text, a number, true or false, or concat('text', COLUMN)";
        if let Expr::Value(value) = expr
            && value.value == Value::Null
        {
            return Ok(NewValue::Null);
        }
        if let Some(literal) = self.literal(expr) {
            return Ok(NewValue::Literal(literal));
        }
        let Expr::Function(function) = expr else { return flaw("sets a column to something else than a value", KNOWN) };
        if let (true, Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(first)), rest @ ..])) =
            (is_named(function, "concat"), arguments(function))
            && let Some(Literal::Text(text)) = self.literal(first)
        {
            let columns: Option<Vec<Column>> = rest
                .iter()
                .map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.column(expr),
                    _ => None,
                })
                .collect();
            if let Some(columns) = columns {
                return Ok(NewValue::Concat(text, columns));
            }
        }
        flaw("calls a function for a column's value", KNOWN)
    }

    /// A condition. Inside a select, each column must be written with the name of its table.
    fn condition(&self, expr: &Expr, inside: Option<&Name>) -> Read<Condition> {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Ok(Condition::And(Box::new(self.condition(left, inside)?), Box::new(self.condition(right, inside)?)))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                Ok(Condition::Or(Box::new(self.condition(left, inside)?), Box::new(self.condition(right, inside)?)))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                Ok(Condition::Not(Box::new(self.condition(expr, inside)?)))
            }
            Expr::Nested(inner) => Ok(Condition::Nested(Box::new(self.condition(inner, inside)?))),
            Expr::BinaryOp { left, op, right } => {
                let how = match op {
                    BinaryOperator::Eq => Comparison::Equal,
                    BinaryOperator::NotEq => Comparison::Unequal,
                    BinaryOperator::Lt => Comparison::Less,
                    BinaryOperator::LtEq => Comparison::LessOrEqual,
                    BinaryOperator::Gt => Comparison::Greater,
                    BinaryOperator::GtEq => Comparison::GreaterOrEqual,
                    _ => return flaw("compares in an unusual way", "write =, <>, <, <=, > or >="),
                };
                Ok(Condition::Compare(self.operand(left, inside)?, how, self.operand(right, inside)?))
            }
            Expr::IsNull(inner) => Ok(Condition::Null(self.its_column(inner, inside)?, false)),
            Expr::IsNotNull(inner) => Ok(Condition::Null(self.its_column(inner, inside)?, true)),
            Expr::Like { negated, expr, pattern, .. } => match self.literal(pattern) {
                Some(Literal::Text(text)) => Ok(Condition::Like(self.its_column(expr, inside)?, *negated, text)),
                _ => flaw("compares by LIKE with something else than a text", "write COLUMN like 'text%'"),
            },
            Expr::In { expr, target: InTarget::List(list), negated, .. } => {
                let values: Option<Vec<_>> = list.iter().map(|value| self.literal(value)).collect();
                let Some(values) = values else {
                    return flaw("has a list with something else than values", "write COLUMN in ('one', 'two')");
                };
                Ok(Condition::OneOf(self.its_column(expr, inside)?, *negated, values))
            }
            Expr::In { expr, target: InTarget::Subquery(query), negated: false, .. } => {
                let column = self.its_column(expr, inside)?;
                Ok(Condition::Within(column, Box::new(self.inner(query)?)))
            }
            _ => flaw(
                "has a condition that is not understood",
                "write comparisons, is null, like, in (…), and, or, not; no functions but lower",
            ),
        }
    }

    fn inner(&self, query: &Query) -> Read<Inner> {
        let SetExpr::Select(select) = &*query.body else {
            return flaw("has a combined SELECT in its condition", "write (select TABLE.COLUMN from TABLE where …)");
        };
        let table = self.only_table(&select.from)?;
        let [SelectItem::UnnamedExpr(expr)] = &select.projection[..] else {
            return flaw("has an inner SELECT of several columns", "write (select TABLE.COLUMN from TABLE where …)");
        };
        let column = self.its_column(expr, Some(&table.name))?;
        let Some(condition) = &select.selection else {
            return flaw("has an inner SELECT without a WHERE", "write (select TABLE.COLUMN from TABLE where …)");
        };
        let condition = self.condition(condition, Some(&table.name))?;
        Ok(Inner { column, table, condition })
    }

    fn its_column(&self, expr: &Expr, inside: Option<&Name>) -> Read<Column> {
        let Some(column) = self.column(expr) else {
            return flaw("compares something else than a column", "write the column's name");
        };
        let Some(table) = inside else { return Ok(column) };
        if column.table.as_ref() == Some(table) {
            return Ok(column);
        }
        let Name(name) = &column.name;
        flaw(
            format!(
                "names {name} in an inner SELECT without its table: if that table has no such column, the outer row's own \
                 column is meant, and every row fits"
            ),
            format!("write {}.{name}", table.0),
        )
    }

    fn operand(&self, expr: &Expr, inside: Option<&Name>) -> Read<Operand> {
        if let Some(literal) = self.literal(expr) {
            return Ok(Operand::Literal(literal));
        }
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => Ok(Operand::Bind(name.trim_start_matches('$').to_owned())),
                Value::Null => flaw("compares with null, which is never true", "write is null or is not null"),
                _ => flaw("has a value of an unusual form", "write a text, a number, true or false"),
            },
            Expr::Function(function) if is_named(function, "lower") => match arguments(function) {
                Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))]) => {
                    Ok(Operand::Lower(Box::new(self.operand(inner, inside)?)))
                }
                _ => flaw("calls lower in an unusual way", "write lower(COLUMN)"),
            },
            Expr::Function(_) => flaw("calls a function: it could change something", "write no functions but lower"),
            other => self.its_column(other, inside).map(Operand::Column),
        }
    }
}

fn is_count(function: &Function) -> bool {
    is_named(function, "count")
        && matches!(arguments(function), Some([FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]))
}

fn is_named(function: &Function, name: &str) -> bool {
    let [ObjectNamePart::Identifier(ident)] = &function.name.0[..] else { return false };
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(name)
}

fn arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(list) => Some(&list.args),
        _ => None,
    }
}
