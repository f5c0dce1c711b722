//! The configurations of the proxies that are not built here.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Error;
use crate::idle::with_all_descriptors;

/// Returns the first line of the version that `program` prints, or `None` if it is not installed.
pub fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.to_owned())
}

/// Writes a configuration, and returns the command that runs `program` with it.
fn with_file(
    folder: &Path,
    (name, text): (&str, String),
    program: &str,
    arguments: &[&str],
) -> Result<Command, Error> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    let file = file.to_str().ok_or("a path that is not text")?;
    Ok(with_all_descriptors(program, &[arguments, &[file]].concat()))
}

pub fn nginx(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> Result<Command, Error> {
    let folder_text = folder.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {folder_text}/{kind};\n"))
        .collect();
    let text = format!(
        "daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 20000;
error_log /dev/null;
pid {folder_text}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  keepalive_requests 100000000;
{temp}  upstream backend {{
    server {backend};
    keepalive 64;
    keepalive_requests 100000000;
  }}
  server {{
    listen {listen} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"
    );
    with_file(folder, ("nginx.conf", text), "nginx", &["-c"])
}

pub fn haproxy(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> Result<Command, Error> {
    let text = format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend clients
  bind {listen} backlog 4096
  default_backend backend
backend backend
  server one {backend}
"
    );
    with_file(folder, ("haproxy.cfg", text), "haproxy", &["-db", "-f"])
}

pub fn envoy(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> Result<Command, Error> {
    let at = |address: SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            address.ip(),
            address.port()
        )
    };
    let (listen, backend) = (at(listen), at(backend));
    let text = format!(
        "static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          use_remote_address: true
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes: [{{ match: {{ prefix: \"/\" }}, route: {{ cluster: backend }} }}]
          http_filters:
          - name: router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: backend
    connect_timeout: 2s
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {backend} }} }}] }}]
"
    );
    let arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "off", "-c"];
    with_file(folder, ("envoy.yaml", text), "envoy", &arguments)
}
