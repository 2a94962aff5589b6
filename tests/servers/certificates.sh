# shellcheck shell=bash
# Certificates for the servers, and wrong ones. Sourced by tests/run.

# certificate NAME SUBJECT EXTENSION… [-- CA]: makes NAME.pem and NAME.key, signed by CA or by itself.
certificate() {
  local name=$1 subject=$2 ca=${4:-}
  local -a sign=()
  if [ -n "$ca" ]; then sign=(-CA "$ca.pem" -CAkey "$ca.key"); fi
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256 -nodes -days 30 -config plain.cnf \
    -subj "/CN=$subject" -addext "$3" -keyout "$name.key" -out "$name.pem" "${sign[@]}" 2>/dev/null
}

make_certificates() {
  cd "$root/tls"
  printf '[req]\ndistinguished_name=dn\n[dn]\n' >plain.cnf
  certificate ca 'sql-exporter test CA' basicConstraints=critical,CA:TRUE
  certificate stranger-ca 'a CA nobody knows' basicConstraints=critical,CA:TRUE
  certificate server localhost 'subjectAltName=DNS:localhost,IP:127.0.0.1' ca
  certificate other elsewhere.example 'subjectAltName=DNS:elsewhere.example' ca
  certificate client client 'extendedKeyUsage=clientAuth' ca
  chmod 644 ./*
  cd "$here"
  export TEST_TLS=$root/tls
}
