//! Debian's registry on loopback, certificates of an authority of our own, and a token server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlbuild::registry::Host;

use crate::support::skip::Skip;
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tool::tool;

/// bcrypt of "secret" at the least cost.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// `me:secret`.
const BASIC: &str = "Basic bWU6c2VjcmV0";

pub enum Auth<'a> {
    None,
    Htpasswd,
    Token { certificates: &'a Certificates, tokens: &'a TokenServer },
}

/// A running registry; its port and its data are its own.
pub struct Peer {
    pub host: Host,
    process: Child,
    data: tempfile::TempDir,
}

impl Peer {
    /// With certificates it speaks HTTPS; with `true` it asks for one of the client's.
    pub fn start(tls: Option<(&Certificates, bool)>, auth: Auth<'_>) -> Result<Self, Skip> {
        let program = tool("docker-registry")?;
        let data = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = |name: &str| data.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n",
            path("data").display()
        );
        if let Some((certificates, clients)) = tls {
            let file = |name: &str| certificates.file(name).display().to_string();
            config +=
                &format!("  tls:\n    certificate: {}\n    key: {}\n", file("leaf.pem"), file("leaf.key"));
            if clients {
                config += &format!("    clientcas: [{}]\n", file("ca.pem"));
            }
        }
        match auth {
            Auth::None => {}
            Auth::Htpasswd => {
                fs::write(path("htpasswd"), HTPASSWD).unwrap();
                config +=
                    &format!("auth: {{htpasswd: {{realm: it, path: {}}}}}\n", path("htpasswd").display());
            }
            Auth::Token { certificates, tokens } => {
                config += &format!(
                    "auth: {{token: {{realm: \"{}\", service: it, issuer: us, rootcertbundle: {}}}}}\n",
                    tokens.server.url("/token"),
                    certificates.ca().display()
                );
            }
        }
        fs::write(path("config.yml"), config).unwrap();
        let log = fs::File::options().create(true).append(true).open(path("log")).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(path("config.yml"))
            .env_clear()
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut peer = Self { host: address.to_string().parse().unwrap(), process, data };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(peer);
            }
            if peer.process.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the registry does not start: {}", fs::read_to_string(peer.data.path().join("log")).unwrap());
    }
}

impl Peer {
    /// What it was asked for, as `PUT /v2/...` without the query, in the order of its answers.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.data.path().join("log")).unwrap();
        let request = |line: &str| {
            let mut words = line.split('"').nth(1)?.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            path.starts_with("/v2").then(|| format!("{method} {}", path.split('?').next().unwrap_or(path)))
        };
        log.lines().filter_map(request).collect()
    }

    pub fn forget_requests(&self) {
        fs::File::options().write(true).open(self.data.path().join("log")).unwrap().set_len(0).unwrap();
    }

    /// The digest behind a tag, by the registry's own files.
    pub fn manifest(&self, repository: &str, tag: &str) -> Option<String> {
        let tags = self.repository(repository).join("_manifests/tags");
        fs::read_to_string(tags.join(tag).join("current/link")).ok()
    }

    /// The bytes are gone; what refers to them stays.
    pub fn lose_blob(&self, digest: &str) {
        fs::remove_file(self.blob(digest)).unwrap();
    }

    pub fn has_blob(&self, digest: &str) -> bool {
        self.blob(digest).exists()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.data.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    pub fn lose_repository(&self, repository: &str) {
        fs::remove_dir_all(self.repository(repository)).unwrap();
    }

    /// Takes all blobs that no manifest names, and all manifests without a tag.
    pub fn collect_garbage(&self) {
        let mut collector = Command::new(tool("docker-registry").unwrap());
        collector.args(["garbage-collect", "-m"]).arg(self.data.path().join("config.yml")).env_clear();
        let done = collector.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The blobs that the repository has.
    pub fn blobs(&self, repository: &str) -> Vec<String> {
        let Ok(links) = fs::read_dir(self.repository(repository).join("_layers/sha256")) else {
            return Vec::new();
        };
        let linked = links.map(|entry| entry.unwrap().path()).filter(|path| path.join("link").exists());
        linked.map(|path| format!("sha256:{}", path.file_name().unwrap().to_str().unwrap())).collect()
    }

    fn repository(&self, repository: &str) -> PathBuf {
        self.data.path().join("data/docker/registry/v2/repositories").join(repository)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An authority, and one certificate for 127.0.0.1 that servers and clients may show: `leaf.pem` and `leaf.key`.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    pub fn make() -> Result<Self, Skip> {
        tool("openssl")?;
        let made = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(
            made.file("leaf.ext"),
            "subjectAltName=IP:127.0.0.1,DNS:registry.example\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let openssl = |arguments: &[&str]| made.openssl(arguments);
        openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=authority",
                    "-keyout",
                    "ca.key",
                    "-out",
                    "ca.pem",
                ],
                &key[..],
                &["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
            ]
            .concat(),
        );
        openssl(
            &[&["req", "-subj", "/CN=leaf", "-keyout", "leaf.key", "-out", "leaf.csr"], &key[..]].concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "leaf.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "leaf.ext",
            "-out",
            "leaf.pem",
        ]);
        Ok(made)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new(tool("openssl").unwrap());
        let done = command.args(arguments).current_dir(self.directory.path()).output().unwrap();
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Gives `me` with the right password what he asks for, and nobody else anything.
pub struct TokenServer {
    pub server: TestServer,
}

impl TokenServer {
    pub fn start(certificates: &Certificates) -> Self {
        let signer = Arc::new(Signer::new(certificates));
        let server = TestServer::start(move |request| match request.header("authorization") {
            Some(BASIC) => Reply::ok(format!("{{\"token\":\"{}\"}}", signer.token(request)).into_bytes()),
            _ => Reply::status(401),
        });
        Self { server }
    }

    pub fn host(&self) -> Host {
        self.server.url("/").authority().parse().unwrap()
    }
}

/// Signs JSON web tokens with a key of RSA under a certificate of the authority.
struct Signer {
    directory: tempfile::TempDir,
    certificate: String,
}

impl Signer {
    fn new(certificates: &Certificates) -> Self {
        certificates.openssl(&[
            "req",
            "-subj",
            "/CN=signer",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "signer.key",
            "-out",
            "signer.csr",
        ]);
        certificates.openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "signer.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-outform",
            "DER",
            "-out",
            "signer.der",
        ]);
        let directory = tempfile::tempdir().unwrap();
        fs::copy(certificates.file("signer.key"), directory.path().join("key")).unwrap();
        Self { directory, certificate: base64(&fs::read(certificates.file("signer.der")).unwrap()) }
    }

    fn token(&self, request: &Request) -> String {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let scopes: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .map(|(_, scope)| {
                let mut words = scope.split(':');
                let mut word = || words.next().unwrap().to_owned();
                let (kind, name, actions) = (word(), word(), word().replace(',', "\",\""));
                format!("{{\"type\":\"{kind}\",\"name\":\"{name}\",\"actions\":[\"{actions}\"]}}")
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = format!("{{\"typ\":\"JWT\",\"alg\":\"RS256\",\"x5c\":[\"{}\"]}}", self.certificate);
        let claims = format!(
            "{{\"iss\":\"us\",\"sub\":\"me\",\"aud\":\"it\",\"exp\":{},\"nbf\":{},\"iat\":{now},\"jti\":\"{}\",\"access\":[{}]}}",
            now + 60,
            now - 60,
            request.number,
            scopes.join(",")
        );
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let file = self.directory.path().join(format!("signed.{}", request.number));
        fs::write(&file, &signed).unwrap();
        format!("{signed}.{}", base64url(&self.sign(&file)))
    }

    fn sign(&self, file: &Path) -> Vec<u8> {
        let mut command = Command::new(tool("openssl").unwrap());
        command.args(["dgst", "-sha256", "-sign"]).arg(self.directory.path().join("key")).arg(file);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for sextet in 0..4 {
            let known = sextet <= chunk.len();
            text.push(if known {
                char::from(ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn base64url(bytes: &[u8]) -> String {
    base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}
