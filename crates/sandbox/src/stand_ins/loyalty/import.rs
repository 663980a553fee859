//! The platform's import of a deletion file, as an operator runs it.
//!
//! The rule it keeps: a file without a known header row deletes no member.

use serde::{Deserialize, Serialize};

use super::{DeletedBy, Loyalty, MemberKey};

/// Why a deletion file was not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ImportError {
    /// No known key column in the first row.
    #[error("Missing headers in file")]
    MissingHeaders,
    /// Not a CSV file.
    #[error("The file cannot be read")]
    Unreadable,
}

impl Loyalty {
    /// Deletes every member in `file` and returns the result file: the key column and `status`, which is `deleted` or
    /// `skipped` (unknown, or deleted before). The first `leave_out` rows are missing from the result, although their
    /// members are deleted.
    ///
    /// # Errors
    /// The header row is missing, or the file is not CSV; no member is deleted.
    pub fn import(&mut self, file: &str, leave_out: usize, now_ms: u64) -> Result<String, ImportError> {
        let mut reader = csv::Reader::from_reader(file.as_bytes());
        let headers = reader.headers().map_err(|_| ImportError::Unreadable)?.clone();
        let found = headers.iter().enumerate().find_map(|(column, name)| Some((column, key_named(name)?)));
        let (column, key) = found.ok_or(ImportError::MissingHeaders)?;
        let rows: Vec<csv::StringRecord> =
            reader.records().collect::<Result<_, _>>().map_err(|_| ImportError::Unreadable)?;

        let mut result = csv::Writer::from_writer(Vec::new());
        result.write_record([&headers[column], "status"]).map_err(|_| ImportError::Unreadable)?;
        for (index, row) in rows.iter().enumerate() {
            let value = row.get(column).unwrap_or_default();
            let wanted = if key == MemberKey::Email { value.to_lowercase() } else { value.to_owned() };
            let id = self.by_key.get(&(key, wanted)).cloned();
            let deleted = id.is_some_and(|id| self.delete(&id, DeletedBy::Import, now_ms));
            if index >= leave_out {
                let status = if deleted { "deleted" } else { "skipped" };
                result.write_record([value, status]).map_err(|_| ImportError::Unreadable)?;
            }
        }
        let bytes = result.into_inner().map_err(|_| ImportError::Unreadable)?;
        String::from_utf8(bytes).map_err(|_| ImportError::Unreadable)
    }
}

/// The key of a header; `Integration ID` and `integration_id` are the same.
fn key_named(header: &str) -> Option<MemberKey> {
    match header.trim().to_lowercase().replace([' ', '-'], "_").as_str() {
        "integration_id" => Some(MemberKey::IntegrationId),
        "member_id" => Some(MemberKey::MemberId),
        "email" | "email_address" => Some(MemberKey::Email),
        _ => None,
    }
}
