//! One etcd and one kube-apiserver on free ports, with our CRDs, which end with the value that started them.

use crate::wait::until;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use ring::{
    rand::SystemRandom,
    signature::{self, KeyPair},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Folder with `etcd` and `kube-apiserver`.
const ASSETS: &str = "RACKPARTITION_ASSETS";
const START: Duration = Duration::from_secs(120);
const TOKEN: &str = "admin-of-a-test";

pub struct ControlPlane {
    pub config: Config,
    pub client: Client,
    /// Where the API server listens: an address of this machine that is not its loopback, or no EndpointSlice may name it.
    pub address: Ipv4Addr,
    api_server: Process,
    etcd: Process,
    folder: TempDir,
}

impl ControlPlane {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let address = own_address();
        let (etcd_port, peer_port) = (free_port(Ipv4Addr::LOCALHOST), free_port(Ipv4Addr::LOCALHOST));
        let (etcd_url, peer_url) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let etcd = Process::start(
            "etcd",
            folder.path(),
            &[
                format!("--data-dir={}", at("etcd").display()),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                "--unsafe-no-fsync".into(),
            ],
        );
        let (private, public) = service_account_keys();
        fs::write(at("sa.key"), private).expect("the service accounts' key");
        fs::write(at("sa.pub"), public).expect("the service accounts' key");
        fs::write(at("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).expect("the tokens");
        let port = free_port(address);
        let api_server = Process::start(
            "kube-apiserver",
            folder.path(),
            &[
                format!("--etcd-servers={etcd_url}"),
                format!("--bind-address={address}"),
                format!("--advertise-address={address}"),
                format!("--secure-port={port}"),
                format!("--cert-dir={}", at("certificates").display()),
                format!("--token-auth-file={}", at("tokens.csv").display()),
                format!("--service-account-key-file={}", at("sa.pub").display()),
                format!("--service-account-signing-key-file={}", at("sa.key").display()),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                "--service-cluster-ip-range=10.96.0.0/16".into(),
                "--authorization-mode=RBAC".into(),
                "--allow-privileged=true".into(),
                // Nobody makes service accounts here, and pods that never run need none.
                "--disable-admission-plugins=ServiceAccount".into(),
            ],
        );
        let certificate = at("certificates").join("apiserver.crt");
        let roots = until("the API server's certificate", START, || async { certificates(&certificate) }).await;
        let mut config = Config::new(format!("https://{address}:{port}").parse().expect("a URL"));
        config.root_cert = Some(roots);
        config.auth_info.token = Some(TOKEN.to_owned().into());
        let client = Client::try_from(config.clone()).expect("a client");
        let mut plane = ControlPlane { config, client, address, api_server, etcd, folder };
        plane.until_ready().await;
        plane.install_crds().await;
        plane
    }

    async fn until_ready(&mut self) {
        let begun = Instant::now();
        while self.is_ready().await.is_none() {
            self.etcd.assert_runs();
            self.api_server.assert_runs();
            assert!(begun.elapsed() < START, "the API server was not ready in time");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn is_ready(&self) -> Option<()> {
        let ready = http::Request::get("/readyz").body(Vec::new()).expect("a request");
        timeout(Duration::from_secs(5), self.client.request_text(ready)).await.ok()?.ok()?;
        // Made by the API server itself a little later.
        Api::<Namespace>::all(self.client.clone()).get("kube-system").await.ok().map(drop)
    }

    async fn install_crds(&self) {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")).expect("the CRDs") {
            let text = fs::read_to_string(file.expect("a file").path()).expect("a CRD");
            let crd: CustomResourceDefinition = serde_saphyr::from_str(&text).expect("a CRD");
            let crd = crds.create(&PostParams::default(), &crd).await.expect("the API server takes our CRD");
            let name = crd.metadata.name.expect("a name");
            let established = await_condition(crds.clone(), &name, is_crd_established());
            timeout(START, established).await.expect("established in time").expect("established");
        }
    }

    /// For programs that are not the test.
    pub fn kubeconfig(&self) -> Value {
        let server = self.config.cluster_url.to_string();
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        })
    }

    /// Makes the API server as silent as a dead one; its connections stay open.
    pub fn freeze(&self) {
        self.api_server.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.api_server.signal("-CONT");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.etcd.print_log(self.folder.path(), 20);
            self.api_server.print_log(self.folder.path(), 20);
        }
    }
}

/// A child that ends with this value.
struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    fn start(name: &'static str, folder: &Path, args: &[String]) -> Self {
        let binary = assets().join(name);
        let log = File::create(log_file(folder, name)).expect("a log file");
        let child = Command::new(&binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {} (from {ASSETS}): {e}", binary.display()));
        Process { name, child }
    }

    fn assert_runs(&mut self) {
        let ended = self.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "{} has ended: {ended:?}", self.name);
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|s| s.success()), "failed to send {signal} to {}", self.name);
    }

    fn print_log(&self, folder: &Path, lines: usize) {
        let text = fs::read_to_string(log_file(folder, self.name)).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        eprintln!("--- the last lines of {}:\n{}", self.name, all[all.len().saturating_sub(lines)..].join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn assets() -> PathBuf {
    std::env::var_os(ASSETS).map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "{ASSETS} is not set: run `make test`, or set it to the folder that \
             `cargo run --package e2e --bin lab -- assets` prints (it needs etcd and kube-apiserver)"
        )
    })
}

pub fn free_port(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// An address of this machine beside its loopback. Nothing is sent anywhere.
fn own_address() -> Ipv4Addr {
    let table = fs::read_to_string("/proc/net/fib_trie").expect("the kernel's routes");
    let mut before = "";
    for line in table.lines().map(str::trim) {
        let address = before.strip_prefix("|-- ").and_then(|a| a.parse::<Ipv4Addr>().ok());
        if let Some(address) = address.filter(|a| line == "/32 host LOCAL" && !a.is_loopback())
            && TcpListener::bind((IpAddr::from(address), 0)).is_ok()
        {
            return address;
        }
        before = line;
    }
    panic!("this machine has no IPv4 address beside its loopback: an API server needs one to be found by");
}

/// A P-256 key as PEM: the private half as the API server signs with, and the public half as it reads one.
fn service_account_keys() -> (String, String) {
    /// SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point itself (RFC 5480).
    const INFO: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let (algorithm, random) = (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let private = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random).expect("a key");
    let public = [&INFO, pair.public_key().as_ref()].concat();
    let text = |tag, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    (text("PRIVATE KEY", private.as_ref()), text("PUBLIC KEY", &public))
}

/// The API server signs its own certificate and adds the authority it made for it.
fn certificates(file: &Path) -> Option<Vec<Vec<u8>>> {
    let found = pem::parse_many(fs::read(file).ok()?).ok()?;
    let found: Vec<_> = found.into_iter().map(pem::Pem::into_contents).collect();
    (found.len() > 1).then_some(found)
}
