//! Certificates of two temporary authorities, made by RabbitMQ's Erlang.
//!
//! The rule it keeps: every broker has new certificates, so that no test depends on a date.

use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `server.{crt,key,ca}` and `client.{crt,key,ca}`, all PEM, into the folder. The `ca` files have both
/// authorities. The server's certificate is for `localhost`.
pub fn make(folder: &Path) {
    let made = Command::new("erl")
        .args(["-noshell", "-eval", PROGRAM])
        .current_dir(folder)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("erl (comes with rabbitmq-server)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
}

const PROGRAM: &str = r#"
    Key = {key, {rsa, 2048, 65537}},
    Names = {extensions, [{'Extension', {2,5,29,17}, false, [{dNSName, "localhost"}]}]},
    Made = [Key, {digest, sha256}],
    Chain = #{root => Made, intermediates => [], peer => [Names | Made]},
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    Pem = fun(File, Entries) ->
        ok = file:write_file(File, public_key:pem_encode([{T, D, not_encrypted} || {T, D} <- Entries]))
    end,
    Side = fun(Name, Of) ->
        Pem(Name ++ ".key", [proplists:get_value(key, Of)]),
        Pem(Name ++ ".crt", [{'Certificate', proplists:get_value(cert, Of)}]),
        Pem(Name ++ ".ca", [{'Certificate', D} || D <- proplists:get_value(cacerts, Of)])
    end,
    Side("server", Server), Side("client", Client), halt(0).
"#;
