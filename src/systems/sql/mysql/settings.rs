//! The address of a MySQL or MariaDB database.
//!
//! The rule it keeps: encrypted and checked against an authority, unless the address says `ssl-mode=disabled`.

use std::path::Path;

use mysql_async::{Opts, OptsBuilder, SslOpts};

use super::super::super::http::BuildError;

const fn url(problem: &'static str) -> BuildError {
    BuildError::Setting { key: "url", problem }
}

/// A database's address.
pub(in super::super) struct Address {
    pub(super) opts: Opts,
    /// The schema of tables that are written without one.
    pub(super) schema: String,
}

impl Address {
    /// True if nobody on a network can read along.
    pub(in super::super) fn is_private(&self) -> bool {
        self.opts.ssl_opts().is_some() || self.opts.addr_is_loopback()
    }
}

/// Reads an address; with `ca_file` only that authority is trusted, otherwise the system's roots.
///
/// # Errors
/// [`BuildError`] naming the key that is wrong.
pub(in super::super) fn read_url(text: &str, ca_file: Option<&Path>) -> Result<Address, BuildError> {
    if !text.starts_with("mysql://") {
        return Err(url("must begin with mysql://"));
    }
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let is_plain = match query {
        "" | "ssl-mode=verify_identity" => false,
        "ssl-mode=disabled" => true,
        _ => return Err(url("may have ssl-mode=verify_identity or ssl-mode=disabled, and nothing else")),
    };
    let opts =
        Opts::from_url(address).map_err(|_| url("is not an address: mysql://USER:PASSWORD@HOST:PORT/DATABASE"))?;
    let (Some(schema), Some(_)) = (opts.db_name().map(str::to_owned), opts.user()) else {
        return Err(url("must name user, host and database: mysql://USER:PASSWORD@HOST:PORT/DATABASE"));
    };
    // An UPDATE counts the rows that it finds, as in other databases, not those that it changes. A socket file is not
    // the address that was given.
    let builder = OptsBuilder::from_opts(opts).client_found_rows(true).prefer_socket(false).stmt_cache_size(0);
    let tls = if is_plain { None } else { Some(tls(ca_file)?) };
    Ok(Address { opts: builder.ssl_opts(tls).into(), schema })
}

fn tls(ca_file: Option<&Path>) -> Result<SslOpts, BuildError> {
    let roots: Vec<_> = match ca_file {
        Some(path) => vec![path.to_owned().into()],
        None => rustls_native_certs::load_native_certs().certs.into_iter().map(|der| der.to_vec().into()).collect(),
    };
    if roots.is_empty() {
        return Err(BuildError::Setting { key: "ca_file", problem: "is needed: this machine has no authority" });
    }
    Ok(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(roots))
}
