//! The `tls:` sections of listeners and services.

use std::path::PathBuf;

use weir_model::{CertificateFiles, ClientAuth, ClientTls, ServerTls, TlsVersion};

use crate::key::{Key, Table};
use crate::mistake::Mistakes;
use crate::node::Node;
use crate::value;

pub(crate) const SERVER: &[Key] = &[
    Key::new(
        "certificates",
        "chains with their keys, PEM; chosen by the names in them, the first one where none fits; watched (required)",
        "",
        "[{ cert: site.pem, key: site.key }]",
    ),
    Key::new(
        "client-ca",
        "authorities whose client certificates are taken",
        "none asked for",
        "clients.pem",
    ),
    Key::new(
        "client-auth",
        "where there is `client-ca`: a certificate is `required`, or `optional`",
        "required",
        "optional",
    ),
    Key::new("min-version", "the oldest version that is spoken: 1.2 or 1.3", "1.2", "1.3"),
];

pub(crate) const CERTIFICATE: &[Key] = &[
    Key::new("cert", "the chain, leaf first (required)", "", "/etc/weir/site.pem"),
    Key::new("key", "the leaf's private key (required)", "", "/etc/weir/site.key"),
];

pub(crate) const CLIENT: &[Key] = &[
    Key::new("verify", "whether a backend's certificate is verified", "true", "false"),
    Key::new("ca", "authorities that are trusted", "those of the system", "/etc/weir/backends.pem"),
    Key::new(
        "server-name",
        "the name that is asked for and that the certificate must have",
        "the backend's address",
        "orders.internal",
    ),
    Key::section("certificate", "what we show of ourselves"),
];

pub(crate) fn read_server(listener: &Table<'_>, mistakes: &mut Mistakes) -> Option<ServerTls> {
    let table = listener.section("tls", "`tls`", SERVER, mistakes)?;
    let nodes = table.list("certificates", mistakes);
    let certificates: Vec<_> =
        nodes.iter().filter_map(|node| certificate(node, mistakes)).collect();
    if nodes.is_empty() {
        mistakes.add(table.at, "`tls` needs `certificates` with at least one");
    }
    let client_auth =
        table.read("client-auth", mistakes, |text| value::word(text, &ClientAuth::NAMES));
    let client_ca = table.read("client-ca", mistakes, file);
    if let (Some(_), None, Some(node)) = (client_auth, &client_ca, table.get("client-auth")) {
        mistakes.add(node.at, "`client-auth` needs `client-ca`");
    }
    let min_version =
        table.read("min-version", mistakes, |text| value::word(text, &TlsVersion::NAMES));
    Some(ServerTls {
        certificates,
        client_ca,
        client_auth: client_auth.unwrap_or_default(),
        min_version: min_version.unwrap_or_default(),
    })
}

fn certificate(node: &Node, mistakes: &mut Mistakes) -> Option<CertificateFiles> {
    let table = Table::open(node, "a certificate", CERTIFICATE, mistakes)?;
    let cert = table.require("cert", mistakes, file);
    let key = table.require("key", mistakes, file);
    Some(CertificateFiles { cert: cert?, key: key? })
}

/// What `tls:` says; the default where nothing is said and `implied`.
pub(crate) fn read_client(
    holder: &Table<'_>,
    implied: bool,
    mistakes: &mut Mistakes,
) -> Option<ClientTls> {
    let default = ClientTls { verify: true, ca: None, server_name: None, certificate: None };
    let Some(table) = holder.section("tls", "`tls`", CLIENT, mistakes) else {
        return implied.then_some(default);
    };
    let verify = table.read("verify", mistakes, value::boolean).unwrap_or(true);
    let ca = table.read("ca", mistakes, file);
    if let (false, Some(node)) = (verify, table.get("ca")) {
        mistakes.add(node.at, "`ca` says whom to trust, but `verify: false` trusts anyone");
    }
    Some(ClientTls {
        verify,
        ca,
        server_name: table.read("server-name", mistakes, server_name),
        certificate: table.get("certificate").and_then(|node| certificate(node, mistakes)),
    })
}

fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("is empty; write the path of a file".to_owned())
    } else {
        Ok(text.into())
    }
}

fn server_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("`{text}` is no host name"))
    }
}
