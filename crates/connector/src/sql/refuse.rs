//! The refusals of files for databases: a file that could report a person as erased while rows are left, or change
//! another person's rows, does not load.
//!
//! The rule it keeps: each refusal says its reason in words, and what to write instead. What cannot be shown to be safe
//! is refused.

use std::collections::BTreeSet;

use erasure_statement::{Column, Condition, Literal, NewValue, Select, Statement, Update};

use super::Database;
use super::model::{Act, Lost, SqlFile};
use super::proof::{covers, old_value};
use crate::model::IdentifierForm;
use crate::read::cursor::Reader;
use crate::words::nearest;

/// The most reads and acts.
const MOST_STEPS: usize = 16;

/// Tries every rule on a file that was read wholly.
pub(super) fn refuse(file: &SqlFile, r: &mut Reader) {
    let mut trial = Trial { file, r };
    trial.person();
    trial.statements();
    trial.counts();
    trial.acts();
    trial.ledger();
    trial.kept();
    trial.own_row();
}

pub(super) struct Trial<'a> {
    pub(super) file: &'a SqlFile,
    r: &'a mut Reader,
}

impl Trial<'_> {
    /// Records a refusal. The line is that of the place, or of the nearest place around it.
    pub(super) fn refuse(&mut self, place: &str, problem: impl Into<String>, instead: impl Into<String>) {
        let mut around = place;
        let line = loop {
            if let Some(line) = self.r.lines.get(around) {
                break *line;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break 1,
            }
        };
        self.r.fault(line, place, problem, instead);
    }

    /// The person is found by one identifier alone, and all identifiers are compared.
    fn person(&mut self) {
        let file = self.file;
        let place = "read.person.select";
        self.binds(place, &file.person.condition);
        if file.person.condition.conjuncts().len() != 1 {
            self.refuse(
                place,
                "has more than one condition: somebody whose row fails the other one would count as absent, and the row \
                 would stay",
                "write where COLUMN = $NAME alone; the other identifiers are compared with the row",
            );
        }
        let mut names = BTreeSet::new();
        for (_, name) in &file.person.columns {
            if !file.identifiers.contains_key(&name.0) {
                let instead = match nearest(&name.0, file.identifiers.keys().map(String::as_str)) {
                    Some(near) => format!("write as {near}"),
                    None => "remove it, or write COLUMN as NAME with an identifier's name".to_owned(),
                };
                self.refuse(place, format!("reads {}, which is no identifier of the file", name.0), instead);
            }
            if !names.insert(&name.0) {
                self.refuse(place, format!("reads {} twice", name.0), "read each identifier once");
            }
        }
        for name in file.identifiers.keys().filter(|name| !names.contains(name)) {
            self.refuse(
                place,
                format!(
                    "finds a person without comparing {name}: somebody else with the same remaining identifiers could be \
                     destroyed"
                ),
                format!("select COLUMN as {name}, too"),
            );
        }
    }

    /// Every statement is about the rows of one person.
    fn statements(&mut self) {
        let file = self.file;
        for (index, act) in file.acts.iter().enumerate() {
            for (number, change) in act.changes.iter().enumerate() {
                let place = format!("act.{}.statements[{number}].sql", act.name);
                self.binds(&place, change.statement.condition());
                if let Statement::Update(update) = &change.statement {
                    self.new_values(&place, update);
                }
                self.children_first(&place, index, number);
            }
        }
    }

    /// A condition at the top binds an identifier that every job has.
    fn binds(&mut self, place: &str, condition: &Condition) {
        let file = self.file;
        for name in condition.names() {
            match file.identifiers.get(name) {
                None => {
                    let known = file.identifiers.keys().map(String::as_str);
                    let instead = match nearest(name, known) {
                        Some(near) => format!("write ${near} instead"),
                        None => "name it in `identifiers` first".to_owned(),
                    };
                    self.refuse(place, format!("names ${name}, which is no identifier of the file"), instead);
                    return;
                }
                Some(identifier) if !identifier.required => {
                    self.refuse(
                        place,
                        format!("needs ${name}, which a job may leave out"),
                        format!("write required = true in identifiers.{name}"),
                    );
                    return;
                }
                Some(_) => {}
            }
        }
        let is_email = |name: &&str| file.identifiers.get(*name).is_some_and(|of| of.form == IdentifierForm::Email);
        // In MySQL the column's collation decides, and the file does not know it.
        // A column of PostgreSQL's type uuid has no case, and the database refuses another type (see `type_uuids`).
        let is_uuid = |name: &&str| file.identifiers.get(*name).is_some_and(|of| of.form == IdentifierForm::Uuid);
        let uuids = match file.database {
            Database::Postgresql => condition.half_lowered(),
            Database::Mysql => condition.with_case(),
        };
        let with_case =
            condition.with_case().into_iter().filter(is_email).chain(uuids.into_iter().filter(is_uuid)).next();
        if let Some(name) = with_case {
            self.refuse(
                place,
                format!("compares ${name} with its case: rows with another one would stay, and count as none"),
                format!("write lower(COLUMN) = lower(${name})"),
            );
        }
        let bound_to = condition.bound_to();
        if bound_to.is_empty() {
            self.refuse(
                place,
                "is bound to nobody: no condition that always holds compares a column with an identifier by =. Under OR \
                 and NOT, and by LIKE, other people's rows fit too",
                "write where COLUMN = $NAME and …, or COLUMN in (select TABLE.COLUMN from TABLE where TABLE.COLUMN = \
                 $NAME)",
            );
            return;
        }
        // Many people have the same tenant, or the same shop: only these identifiers are one person's.
        let finder = file.person.condition.bound_to();
        let is_one_persons = |name: &&str| finder.contains(name) || is_email(name);
        if !bound_to.iter().any(is_one_persons) {
            let finder = finder.first().copied().unwrap_or("NAME");
            self.refuse(
                place,
                format!(
                    "is bound to {} alone, which other people may share: their rows fit too",
                    bound_to.iter().map(|name| format!("${name}")).collect::<Vec<_>>().join(" and ")
                ),
                format!("write where COLUMN = ${finder} and …: the identifier by which read.person finds the person"),
            );
        }
    }

    fn new_values(&mut self, place: &str, update: &Update) {
        let file = self.file;
        let mut set = BTreeSet::new();
        for (column, value) in &update.set {
            let name = &column.name.0;
            if !set.insert(name) {
                self.refuse(place, format!("sets {name} twice"), "set each column once");
            }
            if file.database == Database::Mysql
                && let NewValue::Literal(Literal::Number(_) | Literal::Bool(_)) = value
            {
                self.refuse(
                    place,
                    format!(
                        "sets {name} to a number: MySQL takes every text without digits for 0, so a count would not \
                         find the old one"
                    ),
                    "write null, or the number as a text: '0'",
                );
            }
            if old_value(column, value).is_none() {
                self.refuse(
                    place,
                    format!("sets {name} to a value that no count can tell from an old one"),
                    "begin concat with a text of letters, digits and -: concat('erased-', id)",
                );
            }
        }
        for (column, value) in &update.set {
            if let NewValue::Concat(_, columns) = value
                && let Some(kept) = columns.iter().find(|kept| set.contains(&kept.name.0))
            {
                let (name, kept) = (&column.name.0, &kept.name.0);
                self.refuse(
                    place,
                    format!("puts the old value of {kept} into {name}"),
                    "use a column that names nobody, such as id",
                );
            }
        }
        let mut by: Vec<&Column> = update.condition.columns();
        for inner in update.condition.inner() {
            if inner.table.may_be(&update.table, file.database) {
                by.extend(inner.condition.columns());
            }
        }
        if let Some(column) = by.into_iter().find(|column| set.contains(&column.name.0)) {
            let name = &column.name.0;
            self.refuse(
                place,
                format!("sets {name}, by which it finds the rows: afterwards no count could find them again"),
                "find the rows by a column that stays",
            );
        }
    }

    /// Rows that are found through other rows are changed before those.
    fn children_first(&mut self, place: &str, act: usize, number: usize) {
        let file = self.file;
        let Some(change) = file.acts.get(act).and_then(|act| act.changes.get(number)) else { return };
        let earlier = file.acts.iter().take(act + 1).enumerate().flat_map(|(index, other)| {
            let most = if index == act { number } else { other.changes.len() };
            other.changes.iter().take(most)
        });
        let earlier: Vec<&Statement> = earlier.map(|change| &change.statement).collect();
        let table = change.statement.table();
        let by = change.statement.condition().columns();
        let sets = |column: &Column| {
            earlier.iter().any(|earlier| match earlier {
                Statement::Update(update) => {
                    update.table.may_be(table, file.database)
                        && update.set.iter().any(|(set, _)| set.name == column.name)
                }
                _ => false,
            })
        };
        if let Some(column) = by.into_iter().find(|column| sets(column)) {
            self.refuse(
                place,
                format!(
                    "finds its rows by {}, which an earlier statement has overwritten: it would find none",
                    column.name.0
                ),
                "write this statement before that one, or find the rows by a column that stays",
            );
        }
        for inner in change.statement.condition().inner() {
            let name = inner.table.full(file.database);
            let hides = |earlier: &&&Statement| {
                earlier.table().may_be(&inner.table, file.database)
                    && match earlier {
                        Statement::Delete(_) => true,
                        Statement::Update(update) => {
                            let columns = inner.condition.columns();
                            let read = |column: &Column| {
                                inner.column.name == column.name || columns.iter().any(|one| one.name == column.name)
                            };
                            update.set.iter().any(|(column, _)| read(column))
                        }
                        Statement::Select(_) => false,
                    }
            };
            if earlier.iter().any(|earlier| hides(&earlier)) {
                self.refuse(
                    place,
                    format!(
                        "finds its rows through {name}, which an earlier statement has changed: it would find none"
                    ),
                    "write this statement before that one: the rows of other tables first",
                );
            }
        }
    }

    /// Every count is about the rows of one person, and proves a statement.
    fn counts(&mut self) {
        let file = self.file;
        for (index, read) in file.reads.iter().enumerate() {
            for (number, count) in read.counts.iter().enumerate() {
                let place = format!("read.{}.counts[{number}]", read.name);
                self.binds(&place, &count.condition);
                let users = file.acts.iter().filter(|act| act.evidence.contains(&index));
                let proves = |act: &Act| act.changes.iter().any(|change| self.covers(count, &change.statement));
                if !users.clone().any(proves) {
                    self.refuse(
                        &place,
                        "proves no statement of an act that has this read as evidence",
                        "count the rows of such a statement: the same table, the same conditions",
                    );
                }
            }
            let place = format!("read.{}", read.name);
            if !file.acts.iter().any(|act| act.evidence.contains(&index)) {
                self.refuse(&place, "is no act's evidence", "name it in an act's evidence, or remove it");
            }
        }
    }

    fn covers(&self, count: &Select, statement: &Statement) -> bool {
        covers(count, statement, self.file.database)
    }

    fn acts(&mut self) {
        let file = self.file;
        if file.reads.len() + file.acts.len() > MOST_STEPS {
            self.refuse(
                "act",
                format!("has {} steps with the reads, more than {MOST_STEPS}", file.reads.len() + file.acts.len()),
                "write more statements in an act, and more counts in a read",
            );
        }
        for act in &file.acts {
            let counts: Vec<&Select> =
                act.evidence.iter().filter_map(|read| file.reads.get(*read)).flat_map(|read| &read.counts).collect();
            for (number, change) in act.changes.iter().enumerate() {
                if counts.iter().any(|count| self.covers(count, &change.statement)) {
                    continue;
                }
                let of = match &change.statement {
                    Statement::Update(_) => {
                        "the same conditions, and (COLUMN is not null or …) for every column that is set"
                    }
                    _ => "the same conditions or fewer",
                };
                self.refuse(
                    &format!("act.{}.statements[{number}].sql", act.name),
                    "is proven by no count of the act's evidence: rows that it leaves would not be seen",
                    format!(
                        "write in the evidence: select count(*) from {} where … with {of}",
                        change.statement.table().full(file.database)
                    ),
                );
            }
            if let Lost::Read(reads) = &act.lost
                && reads.iter().any(|read| !act.evidence.contains(read))
            {
                self.refuse(
                    &format!("act.{}.lost", act.name),
                    "names a read that is not the act's evidence: it could show another act's effect",
                    "write the same reads as in evidence",
                );
            }
        }
    }

    fn ledger(&mut self) {
        let file = self.file;
        let is_used = file.acts.iter().any(|act| act.lost == Lost::Ledger);
        match &file.ledger {
            Some(_) if !is_used => {
                self.refuse("ledger", "is used by no act", "write lost = { ledger = true } in an act, or remove it");
            }
            Some(ledger) if file.changed().contains(&ledger.full(file.database)) => {
                self.refuse("ledger", "is a table that an act changes", "give the ledger a table of its own");
            }
            None if is_used => {
                let act = file.acts.iter().find(|act| act.lost == Lost::Ledger).map_or("", |act| &act.name);
                self.refuse(
                    &format!("act.{act}.lost"),
                    "needs a ledger, which the file does not have",
                    "write ledger = \"erasure_done\": a table with the columns digest (text, primary key) and done_at",
                );
            }
            _ => {}
        }
    }

    /// Tables that are kept, and the person's own table.
    fn kept(&mut self) {
        let file = self.file;
        for act in &file.acts {
            for (number, change) in act.changes.iter().enumerate() {
                let name = change.statement.table().full(file.database);
                if matches!(change.statement, Statement::Delete(_)) && file.keep.contains_key(&name) {
                    self.refuse(
                        &format!("act.{}.statements[{number}].sql", act.name),
                        format!("deletes rows of {name}, which `keep` keeps"),
                        "remove the table from keep, or the statement",
                    );
                }
            }
        }
        let person = file.person.table.full(file.database);
        if !file.changed().contains(&person) && !file.keep.contains_key(&person) {
            self.refuse(
                "read.person.select",
                format!("reads the person in {person}, which no act changes: the row would stay"),
                format!("write an act's statement for it, or keep = {{ \"{person}\" = \"the reason\" }}"),
            );
        }
    }
}
