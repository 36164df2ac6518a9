#!/bin/bash
# wolfSSL takes an RSA-PSS key for its certificate, and makes signatures with it that OpenSSL refuses.
#
# A key whose algorithm is RSASSA-PSS may sign in TLS 1.3 as rsa_pss_pss_* only; rsa_pss_rsae_* is for
# plain RSA keys (RFC 8446, 4.2.3). wolfSSL 5.5.4 (Debian 12) loads certificate and key without an
# error, and signs as rsa_pss_rsae_*: OpenSSL 3.0 ends the handshake with "wrong signature type" (so
# do wolfSSL 5.7.2 and OpenSSL 3.5.9 of Debian 13). Two ends with wolfSSL understand each other, so
# tests of a program with itself do not show it. Nothing at load time tells: look at the key's
# algorithm (EVP_PKEY_RSA_PSS) before it is given to wolfSSL.
#
# Needs gcc, openssl, and apt-get download. Prints versions and what was seen; ends with 1 if that has
# changed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
chmod 777 . # apt downloads as a user of its own
apt-get -qq download libwolfssl35=5.5.4-2+deb12u3 libwolfssl-dev=5.5.4-2+deb12u3 >/dev/null
for package in *.deb; do
    dpkg-deb -x "$package" root
done
libraries=$(dirname "$(find root -name 'libwolfssl.so.35' | head -n 1)")

cat >server.c <<'C'
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MUST(what) ((what) ? (void)0 : (perror(#what), exit(2)))

/* A TLS 1.3 server for one connection; prints its port when it listens. */
int main(int argc, char **argv)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    MUST(argc == 3 && bind(fd, (struct sockaddr *)&addr, size) == 0 && listen(fd, 1) == 0);
    MUST(getsockname(fd, (struct sockaddr *)&addr, &size) == 0);
    wolfSSL_Init();
    WOLFSSL_CTX *ctx = wolfSSL_CTX_new(wolfTLSv1_3_server_method());
    MUST(wolfSSL_CTX_use_certificate_file(ctx, argv[1], SSL_FILETYPE_PEM) == SSL_SUCCESS);
    MUST(wolfSSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) == SSL_SUCCESS);
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    int peer = accept(fd, NULL, NULL);
    WOLFSSL *ssl = wolfSSL_new(ctx);
    wolfSSL_set_fd(ssl, peer);
    return wolfSSL_accept(ssl) == SSL_SUCCESS ? 0 : 3;
}
C
gcc -Iroot/usr/include server.c -o server "$libraries/libwolfssl.so.35" -Wl,-rpath,"$dir/$libraries"
echo "wolfSSL 5.5.4-2+deb12u3, $(openssl version)"

# try KIND: what openssl says to a wolfSSL server with a key of this kind
try() {
    openssl req -x509 -newkey "$1" -pkeyopt rsa_keygen_bits:2048 -nodes -subj /CN=localhost -days 30 \
        -keyout "$1.key" -out "$1.pem" 2>/dev/null
    mkfifo "$1.port"
    ./server "$1.pem" "$1.key" >"$1.port" &
    read -r port <"$1.port"
    timeout 20 openssl s_client -connect "127.0.0.1:$port" -tls1_3 -CAfile "$1.pem" </dev/null 2>&1 |
        grep -oE 'Peer signature type: .*|wrong signature type' | head -n 1 || true
    wait $! || true
}
plain=$(try rsa)
pss=$(try rsa-pss)
echo "a key of plain RSA: $plain"
echo "a key of RSA-PSS: $pss"
if [[ $plain == "Peer signature type: RSA-PSS" && $pss == "wrong signature type" ]]; then
    echo "as described above"
else
    echo "this has changed"
    exit 1
fi

# Seen:
#   wolfSSL 5.5.4-2+deb12u3, OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)
#   a key of plain RSA: Peer signature type: RSA-PSS
#   a key of RSA-PSS: wrong signature type
#   as described above
