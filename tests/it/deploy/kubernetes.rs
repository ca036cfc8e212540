//! The Helm chart, from which everything is generated: its output is valid for three versions of Kubernetes, its
//! configuration is accepted by upwarden, and the plain manifest and the kustomize component are generated from it
//! (`UPWARDEN_UPDATE=1`).

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{command, has, program};

const CHART: &str = "deploy/kubernetes/chart";
const SCHEMAS: &str = "target/kubernetes-schemas";
/// The oldest version that the chart allows, and later ones.
const VERSIONS: [&str; 3] = ["1.30", "1.32", "1.34"];
/// Files of values, with the number of resources each makes, and of those that Kubernetes itself does not know.
const VALUES: [(&str, usize, usize); 3] = [("sidecar", 4, 0), ("standalone", 4, 0), ("everything", 14, 3)];

fn tools() -> bool {
    let found = ["helm", "kubectl"].iter().all(|tool| Path::new("target/kubernetes-tools").join(tool).is_file());
    has(found && Path::new(SCHEMAS).join("kubernetes_validate").is_dir(), "helm, kubectl and kubernetes-validate")
}

/// Whether a tool succeeded, its output and its errors.
fn run(tool: &str, arguments: &[&str]) -> (bool, String, String) {
    let program = format!("target/kubernetes-tools/{tool}");
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn made(tool: &str, arguments: &[&str]) -> String {
    let (succeeded, out, errors) = run(tool, arguments);
    assert!(succeeded, "{arguments:?}: {errors}");
    out
}

fn values(name: &str) -> String {
    format!("{CHART}/ci/{name}-values.yaml")
}

fn python(arguments: &[&str], input: &str) -> String {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", SCHEMAS).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

fn documents(yaml: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(sys.stdin) if d]))";
    serde_json::from_str(&python(&["-c", script], yaml)).unwrap()
}

/// Checks each resource strictly against a version's schema; the number of those that were checked.
fn validate(yaml: &str, version: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resources.yaml");
    std::fs::write(&file, yaml).unwrap();
    let file = file.display().to_string();
    let said = python(&["-m", "kubernetes_validate", "-k", version, "--strict", "--no-warn", &file], "");
    said.lines().filter(|line| line.contains(" passed for resource ")).count()
}

fn find<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn the_charts_output_is_valid_for_three_versions_of_kubernetes() {
    if !tools() {
        return;
    }
    for version in VERSIONS {
        let (mut yaml, mut known) = (String::new(), 0);
        for (name, all, foreign) in VALUES {
            let values = values(name);
            made("helm", &["lint", "--strict", CHART, "--values", &values, "--kube-version", version]);
            let made = made("helm", &["template", "release", CHART, "--values", &values, "--kube-version", version]);
            assert_eq!(documents(&made).len(), all, "{name}");
            yaml.push_str(&made);
            known += all - foreign;
        }
        assert_eq!(validate(&yaml, version), known, "{version}");
    }
    let (old, _, why) =
        run("helm", &["template", "release", CHART, "--values", &values("sidecar"), "--kube-version", "1.29"]);
    assert!(!old && why.contains("1.29"), "{why}");
}

#[test]
fn upwarden_accepts_the_configuration_that_the_chart_makes() {
    if !tools() {
        return;
    }
    for (name, ..) in VALUES {
        let all = documents(&made("helm", &["template", "release", CHART, "--values", &values(name)]));
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let place = folder.path().join(name);
            std::fs::write(&place, text).unwrap();
            std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            place.display().to_string()
        };
        let toml_text = find(&all, "ConfigMap")["data"]["upwarden.toml"].as_str().unwrap();
        let toml = write("upwarden.toml", &toml_text.replace("/run/secrets/tls", &folder.path().display().to_string()));
        let certificate = rcgen::generate_simple_self_signed(["tools.example.com".to_owned()]).unwrap();
        write("tls.crt", &certificate.cert.pem());
        write("tls.key", &certificate.signing_key.serialize_pem());
        write("upwork", "fedcba9876543210\n");
        write("session-key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n");
        let pod = &find(&all, "Deployment")["spec"]["template"]["spec"];
        let inside = pod["initContainers"].as_array().or(pod["containers"].as_array()).unwrap();
        let mut check = command(&["check", "--strict", "--config", &toml]);
        for variable in inside[0]["env"].as_array().unwrap() {
            let value = variable["value"].as_str().unwrap_or("a-password");
            let value = value.replace("/run/secrets/upwarden", &folder.path().display().to_string());
            check.env(variable["name"].as_str().unwrap(), value.replace("$(VALKEY_PASSWORD)", "a-password"));
        }
        let output = check.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_secret_with_a_certificate_gives_the_public_door_tls() {
    if !tools() {
        return;
    }
    let file = values("standalone");
    let arguments = ["template", "release", CHART, "--values", &file, "--set", "ingress.enabled=true"];
    let trusted = ["--set", "config.public\\.trusted_proxies={10.0.12.0/24}"];
    for (secret, scheme) in [("tools-certificate", "https"), ("", "http")] {
        let set = format!("tls.secretName={secret}");
        let all = documents(&made("helm", &[&arguments[..], &trusted, &["--set", &set]].concat()));
        let port = &find(&all, "Service")["spec"]["ports"][0];
        assert_eq!((&port["name"], &port["port"]), (&scheme.into(), &443.into()));
        assert_eq!(port.get("appProtocol").is_some_and(|protocol| protocol == "https"), scheme == "https");
        let backend = &find(&all, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
        assert_eq!(backend["port"]["name"], scheme);
        let pod = &find(&all, "Deployment")["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == "upwarden-tls");
        assert_eq!(volume.map(|volume| &volume["secret"]["secretName"]), (scheme == "https").then_some(&secret.into()));
        let mounts = pod["containers"][0]["volumeMounts"].to_string();
        assert_eq!(mounts.contains("/run/secrets/tls"), scheme == "https", "{mounts}");
        let toml = find(&all, "ConfigMap")["data"]["upwarden.toml"].as_str().unwrap();
        assert_eq!(toml.contains("cert_file = \"/run/secrets/tls/tls.crt\""), scheme == "https", "{toml}");
    }
}

/// Kubernetes before 1.32 does not find a native sidecar's ports by their names, nor do some network plugins.
#[test]
fn others_name_the_sidecars_ports_by_number() {
    if !tools() {
        return;
    }
    let all = documents(&made("helm", &["template", "release", CHART, "--values", &values("everything")]));
    let numbers = |list: &Value, name: &str| {
        let ports = list.as_array().unwrap().iter();
        ports.map(|port| port[name].as_u64().unwrap_or_else(|| panic!("{port}"))).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&find(&all, "Service")["spec"]["ports"], "targetPort"), [4180, 4182]);
    let of_upwarden = |document: &&Value| {
        document["kind"] == "NetworkPolicy" && document["metadata"]["labels"]["app.kubernetes.io/name"] == "upwarden"
    };
    let policy = &all.iter().find(of_upwarden).unwrap()["spec"]["ingress"];
    assert_eq!([0, 1].map(|rule| numbers(&policy[rule]["ports"], "port")), [[4180], [4182]]);
}

/// Published types of the Gateway API and of the Prometheus operator, and the compiler that checks resources against them.
const TYPES: &str = "target/kubernetes-types";
const OPERATOR: &str = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
const KINDS: [(&str, &str); 3] = [
    ("HTTPRoute", "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1"),
    ("PodMonitor", OPERATOR),
    ("ServiceMonitor", OPERATOR),
];

/// What the compiler says of these resources.
fn compiled(resources: &[(&str, &str, Value)]) -> String {
    let mut source = String::new();
    for (number, (kind, package, resource)) in resources.iter().enumerate() {
        writeln!(source, "import type {{ I{kind} as T{number} }} from \"{package}\";").unwrap();
        writeln!(source, "export const r{number}: T{number} = {resource};").unwrap();
    }
    let folder = tempfile::tempdir_in(TYPES).unwrap();
    let file = folder.path().join("resources.mts");
    std::fs::write(&file, source).unwrap();
    let compiler = format!("{TYPES}/node_modules/typescript/bin/tsc");
    let flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];
    let output = Command::new("node").arg(compiler).args(flags).arg(&file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_route_and_the_monitors_fit_the_published_types_of_their_apis() {
    let types = Path::new(TYPES).join("node_modules/typescript").is_dir() && program("node").is_some();
    if !tools() || !has(types, "types of the Gateway API and the Prometheus operator (tests/run fetches them)") {
        return;
    }
    let all = documents(&made("helm", &["template", "release", CHART, "--values", &values("everything")]));
    let mut resources = KINDS.map(|(kind, package)| (kind, package, find(&all, kind).clone())).to_vec();
    // As the README makes it of the rules.
    let rules = documents(&std::fs::read_to_string("deploy/prometheus/upwarden.rules.yaml").unwrap()).remove(0);
    let api = "monitoring.coreos.com/v1";
    let rule =
        json!({ "apiVersion": api, "kind": "PrometheusRule", "metadata": { "name": "upwarden" }, "spec": rules });
    resources.push(("PrometheusRule", OPERATOR, rule));
    assert_eq!(compiled(&resources), "");
    // A name that an API does not know.
    let mut wrong = resources;
    wrong[0].2["spec"]["hostname"] = "x".into();
    wrong[1].2["spec"]["podMetricsEndpoints"][0]["intervall"] = "30s".into();
    wrong[2].2["spec"]["endpoints"][0]["port"] = 1.into();
    let faults = compiled(&wrong);
    assert!(
        ["hostname", "intervall"].iter().all(|name| faults.contains(&format!("'\"{name}\"' does not exist"))),
        "{faults}"
    );
    assert_eq!(faults.matches(": error ").count(), 3, "{faults}");
}

#[test]
fn the_chart_refuses_what_could_not_work_and_says_what_to_set() {
    if !tools() {
        return;
    }
    let table = [
        (vec!["config.public_url="], "set config.public_url"),
        (vec!["config.public\\.trusted_proxies=null", "ingress.enabled=true"], "set config.public\\.trusted_proxies"),
        (vec!["httpRoute.enabled=true"], "set httpRoute.parentRefs"),
        (vec!["app.container=null"], "set app.container to your app's container, or app.url"),
        (vec!["config.store\\.kind=embedded"], "set replicaCount to 1, or use Valkey"),
        (vec!["replicas=3"], "additional properties 'replicas' not allowed"),
        (vec!["config.public\\.listen=x"], "public.listen"),
        (vec!["config.access\\.anyone=true"], "access.anyone"),
        (vec!["config.upwork.client_secret=x"], "upwork"),
    ];
    let required = ["config.public_url=https://tools.example.com", "config.upwork\\.client_id=x"];
    let (made, _, why) = run("helm", &["template", "release", CHART, "--set", required[0], "--set", required[1]]);
    assert!(!made && why.contains("set access.users, access.organizations or access.anyone"), "{why}");
    for (settings, reason) in table {
        let file = values("sidecar");
        let mut arguments = vec!["template", "release", CHART, "--values", &file];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let (made, _, why) = run("helm", &arguments);
        assert!(!made && why.contains(reason), "{settings:?}: {why}");
    }
}

/// What stands above the plain manifest.
const HEADER: &str = "\
# An app with upwarden as a native sidecar: the chart's output, generated for ../chart/ci/sidecar-values.yaml. ../README.md says how
# to create the Secret `upwarden`, and what to change: public_url, client_id, trusted_proxies, users, and both images.
";

/// The plain manifest, and the part of it that the kustomize component adds to a Deployment.
fn generated() -> [(&'static str, String); 2] {
    let yaml = made("helm", &["template", "upwarden", CHART, "--values", &values("sidecar")]);
    let ours = |line: &&str| !line.starts_with("# Source: ") && !line.contains("app.kubernetes.io/managed-by:");
    let lines: Vec<_> = yaml.trim_start_matches("---\n").lines().filter(ours).collect();
    let yaml = lines.join("\n") + "\n";
    let from = yaml.find("      # Kubernetes would add UPWARDEN_").expect("the pod's settings");
    let to = yaml.find("      containers:\n").expect("the app's container");
    let patch = format!(
        "# Generated from the chart.\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: any\nspec:\n  template:\n    \
         spec:\n{}",
        &yaml[from..to]
    );
    [
        ("deploy/kubernetes/base/upwarden.yaml", format!("{HEADER}{yaml}")),
        ("deploy/kubernetes/component/sidecar.yaml", patch),
    ]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not of the product")]
fn the_plain_manifest_and_the_component_are_generated_from_the_chart() {
    if !tools() {
        return;
    }
    for (file, text) in generated() {
        if std::env::var("UPWARDEN_UPDATE").is_ok() {
            std::fs::write(file, &text).unwrap();
        }
        let there = std::fs::read_to_string(file).unwrap_or_default();
        assert!(there == text, "{file} is out of date: UPWARDEN_UPDATE=1 cargo test --test it deploy::kubernetes");
    }
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: tools }
spec:
  selector: { matchLabels: { app: tools } }
  template:
    metadata: { labels: { app: tools } }
    spec:
      securityContext: { fsGroup: 1000 }
      containers:
        - { name: tools, image: 'tools:1', volumeMounts: [{ name: data, mountPath: /data }] }
      volumes:
        - { name: data, emptyDir: {} }
";
const KUSTOMIZATION: &str = "
resources: [deployment.yaml]
components: [../component]
configMapGenerator:
  - { name: upwarden, files: [upwarden.toml], options: { disableNameSuffixHash: true } }
images: [{ name: registry.example.com/upwarden, newName: registry.test/upwarden, newTag: '1' }]
";

#[test]
fn kustomize_builds_the_base_and_adds_the_sidecar_to_any_deployment() {
    if !tools() {
        return;
    }
    let base = made("kubectl", &["kustomize", "deploy/kubernetes/base"]);
    let folder = tempfile::tempdir().unwrap();
    let (app, component) = (folder.path().join("app"), folder.path().join("component"));
    std::fs::create_dir(&app).unwrap();
    std::fs::create_dir(&component).unwrap();
    for name in ["kustomization.yaml", "sidecar.yaml"] {
        std::fs::copy(Path::new("deploy/kubernetes/component").join(name), component.join(name)).unwrap();
    }
    for (name, text) in
        [("deployment.yaml", DEPLOYMENT), ("kustomization.yaml", KUSTOMIZATION), ("upwarden.toml", "app.url = 'x'\n")]
    {
        std::fs::write(app.join(name), text).unwrap();
    }
    let with_sidecar = made("kubectl", &["kustomize", &app.display().to_string()]);
    for version in VERSIONS {
        assert_eq!(validate(&format!("{base}\n---\n{with_sidecar}"), version), 4 + 2);
    }
    let all = documents(&with_sidecar);
    assert_eq!(find(&all, "ConfigMap")["metadata"]["name"], "upwarden");
    let pod = &find(&all, "Deployment")["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&"upwarden".into(), &"Always".into()));
    assert_eq!(sidecar["image"], "registry.test/upwarden:1");
    let app = &pod["containers"][0];
    assert_eq!((&app["image"], &app["lifecycle"]["preStop"]["sleep"]["seconds"]), (&"tools:1".into(), &10.into()));
    assert_eq!(pod["securityContext"], json!({ "fsGroup": 1000 }), "the app's own");
    let volumes = pod["volumes"].as_array().unwrap();
    let names: Vec<_> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert!(["data", "upwarden-config", "upwarden-secret"].iter().all(|name| names.contains(name)), "{names:?}");
}
