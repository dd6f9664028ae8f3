//! Registries behind a proxy: who goes through it, and what it sees.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::peer::{Auth, Certificates, Peer};
use crate::support::mlbuild::{Finished, Project, Run};
use crate::support::skip::or_skip;
use crate::support::testserver::{Reply, TestServer};

/// Tunnels every `CONNECT` to one address, and refuses all else. It keeps the heads and how the tunnels began.
struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                std::thread::spawn(move || tunnel(stream, target, &log));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn tunnel(mut client: TcpStream, target: SocketAddr, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    log.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    if !head.starts_with(b"CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let mut server = TcpStream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
}

/// A login with these variables and no other that names a proxy.
fn login(project: &Project, host: &str, variables: &[(&str, &str)]) -> Finished {
    let input = project.path().join("password");
    fs::write(&input, "secret").unwrap();
    let script = "for name in HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy\n\
                  do unset $name; done\nexec env $2 \"$3\" login -u me --password-stdin --json \"$4\" < \"$1\"";
    let variables: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Run::new("sh")
        .args(&["-c", script, "sh", input.to_str().unwrap(), &variables.join(" ")])
        .args(&[crate::support::mlbuild::PROGRAM, host])
        .env("HOME", project.home())
        .env("XDG_RUNTIME_DIR", project.home().join("run"))
        .run()
}

fn configure(project: &Project, text: &str) {
    let path = project.home().join(".config/mlbuild/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
}

#[test]
fn a_proxy_carries_what_it_cannot_read() {
    let certificates = or_skip!("a proxy", Certificates::make());
    let peer = or_skip!("a proxy", Peer::start(Some((&certificates, false)), Auth::Htpasswd));
    let target: SocketAddr = peer.host.as_str().parse().unwrap();
    let ca = certificates.ca();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let (project, proxy) = (Project::empty(), Proxy::start(target));
        configure(&project, &format!("[registries.\"registry.example\"]\nca = [\"{}\"]\n", ca.display()));
        let done = login(&project, "registry.example", &[(variable, &proxy.url())]).expect(0).json();
        assert_eq!(done["verified"], true, "{variable}");
        let seen = proxy.seen();
        assert!(
            !seen.is_empty() && seen.iter().all(|head| head.starts_with("CONNECT registry.example:443 ")),
            "{seen:?}"
        );
        assert!(seen.iter().all(|head| !head.to_lowercase().contains("authorization")), "{seen:?}");
        // Those that are to be reached without it are.
        let away = [(variable, proxy.url()), ("NO_PROXY", "other.example,.example".to_owned())];
        let away = away.each_ref().map(|(name, value)| (*name, value.as_str()));
        let _ = login(&project, "registry.example", &away).expect(5);
        assert_eq!(proxy.seen().len(), seen.len());
    }
}

#[test]
fn a_password_for_the_proxy_is_not_the_registrys() {
    let certificates = or_skip!("a proxy", Certificates::make());
    let peer = or_skip!("a proxy", Peer::start(Some((&certificates, false)), Auth::Htpasswd));
    let (project, proxy) = (Project::empty(), Proxy::start(peer.host.as_str().parse().unwrap()));
    let ca = certificates.ca();
    configure(&project, &format!("[registries.\"registry.example\"]\nca = [\"{}\"]\n", ca.display()));
    let url = format!("http://you:other@{}", proxy.address);
    let done = login(&project, "registry.example", &[("HTTPS_PROXY", &url)]).expect(0);
    assert_eq!(done.json()["verified"], true);
    // `you:other`
    let head = proxy.seen().remove(0).to_lowercase();
    assert!(
        head.contains("proxy-authorization: basic ew91om90agvy") && !head.contains("\nauthorization"),
        "{head}"
    );
}

#[test]
fn this_machine_needs_no_proxy() {
    let peer = or_skip!("a registry", Peer::start(None, Auth::None));
    let (project, proxy) = (Project::empty(), Proxy::start(peer.host.as_str().parse().unwrap()));
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let variables = all.map(|name| (name, proxy.url()));
    let variables = variables.each_ref().map(|(name, url)| (*name, url.as_str()));
    let localhost = format!("localhost:{}", peer.host.port());
    for host in [peer.host.as_str(), &localhost] {
        let _ = login(&project, host, &variables).expect(0);
        assert!(proxy.seen().is_empty());
    }
}

/// Plain HTTP, which the user has to allow, goes through `HTTP_PROXY`.
#[test]
fn an_insecure_registry_is_asked_through_the_proxy_for_http() {
    let project = Project::empty();
    configure(&project, "[registries.\"registry.example:80\"]\ninsecure = true\n");
    let proxy = TestServer::start(|_| Reply::ok(*b"{}"));
    let url = proxy.url("/").to_string();
    let _ = login(&project, "registry.example:80", &[("HTTP_PROXY", &url)]).expect(0);
    assert_eq!(proxy.log()[0].path, "http://registry.example/v2/");
    // That for HTTPS has nothing to do with it.
    let before = proxy.log().len();
    let _ = login(&project, "registry.example:80", &[("HTTPS_PROXY", &url)]).expect(5);
    assert_eq!(proxy.log().len(), before);
}
