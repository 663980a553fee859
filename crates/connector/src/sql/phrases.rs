//! Statements that no file contains, in each database's words.
//!
//! The rule it keeps: names come from an accepted file, values are placeholders.

use erasure_statement::{Name, Sql};

use super::Database;
use super::model::SqlFile;

impl SqlFile {
    /// The person's select with each column as a text.
    pub fn person_sql(&self) -> Sql {
        let quote = self.database.quote();
        let mut sql = self.person.sql(self.database);
        let text = |name: &Name| {
            let column = format!("p.{quote}{}{quote}", name.0);
            match self.database {
                Database::Postgresql => format!("{column}::text"),
                Database::Mysql => format!("convert({column} using utf8mb4)"),
            }
        };
        let columns: Vec<_> = self.person.columns.iter().map(|(_, name)| text(name)).collect();
        sql.text = format!("select {} from ({}) as p", columns.join(", "), sql.text);
        sql
    }

    /// One row if the person's table has any.
    pub fn any_person_sql(&self) -> String {
        format!("select 1 from {} limit 1", self.person.table.written(self.database))
    }

    /// Writes a digest into the ledger, unless it is there.
    pub fn note_sql(&self) -> Option<String> {
        let table = self.ledger.as_ref()?.written(self.database);
        Some(match self.database {
            Database::Postgresql => {
                format!("insert into {table} (\"digest\") values ($1) on conflict do nothing")
            }
            Database::Mysql => format!("insert ignore into {table} (`digest`) values (?)"),
        })
    }

    /// Counts a digest in the ledger.
    pub fn noted_sql(&self) -> Option<String> {
        let table = self.ledger.as_ref()?.written(self.database);
        Some(match self.database {
            Database::Postgresql => format!("select count(*) from {table} where \"digest\" = $1"),
            Database::Mysql => format!("select count(*) from {table} where `digest` = ?"),
        })
    }
}
