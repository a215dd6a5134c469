//! A real nginx: what stands before servers that ask for TLS, certificates, passwords or names.

use std::fs;

use super::caches::{Daemon, Kind};
use super::frames::Protocol;
use super::redis::Certificates;

/// A real nginx.
pub type NginxServer = Daemon<Nginx>;

/// The kind of an [`NginxServer`].
#[derive(Debug)]
pub enum Nginx {}

impl Kind for Nginx {
    const PROGRAM: &'static str = "nginx";
    const PROTOCOL: Protocol = Protocol::Opaque;
    const PROBE: &'static [u8] = b"";
}

impl NginxServer {
    /// One that speaks plainly, with more directives for its one server; `PORT` in them stands for its port.
    pub async fn start(directives: &str) -> Self {
        Self::listening("", directives).await
    }

    /// One that speaks TLS with the certificate `name` of `certificates`.
    pub async fn start_tls(certificates: &Certificates, name: &str, directives: &str) -> Self {
        let [cert, key] = ["crt", "key"].map(|end| certificates.path(&format!("{name}.{end}")));
        Self::listening(" ssl", &format!("ssl_certificate {cert}; ssl_certificate_key {key}; {directives}")).await
    }

    async fn listening(manner: &str, directives: &str) -> Self {
        Self::start_with(false, |port, folder| {
            // One process only, so that all of it is gone when it is killed.
            let files = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let files: String = files.map(|name| format!("{name}_temp_path {name};\n")).concat();
            let directives = directives.replace("PORT", &port.to_string());
            // One process only, so that all of it is gone when it is killed.
            let config = format!(
                "daemon off; master_process off; pid pid; error_log stderr; events {{}}\nhttp {{\naccess_log off;\n{files}\
                 server {{ listen 127.0.0.1:{port}{manner}; {directives} }}\n}}\n"
            );
            fs::write(folder.join("conf"), config).expect("a file");
            let folder = folder.display().to_string();
            ["-p", &folder, "-c", "conf", "-e", "stderr"].map(ToOwned::to_owned).into()
        })
        .await
    }
}
