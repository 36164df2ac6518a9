/*
 * ktls: see ktls.h.
 *
 * Owns the translation of our keys into the kernel's struct tls12_crypto_info_*, one function per
 * cipher, and of its errnos into sentences. Holds no state of its own: the engine of a direction is
 * in struct record.
 *
 * How the kernel wants a nonce:
 *   AES-GCM   salt = the first 4 bytes of the TLS 1.3 iv (the whole salt in TLS 1.2), iv = its last
 *             8 (TLS 1.2: the next explicit nonce, which the kernel then counts up itself; ours is
 *             the sequence number)
 *   ChaCha20  no salt, iv = all 12 bytes
 *   rec_seq   big-endian, of the next record
 *
 * What versions take: TLS 1.3 since 5.1, ChaCha20-Poly1305 since 5.11, new keys on a socket that
 * has some since 6.14. Rejected: a table of versions, because vendors backport; we ask, and a
 * refusal is an answer.
 *
 * The copy of the key on our stack and in struct record is wiped once the kernel has it.
 */
#include "tls/ktls.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <string.h>

#include "core/base/check.h"
#include "tls/record_impl.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

static const char *const no_module = "the kernel has no TLS module: load it with 'modprobe tls', "
                                     "or leave records to the user engine";

const char *ktls_why(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return "the kernel takes TLS records";
    case ENOENT:
        return no_module;
    case ENOPKG:
        return "the kernel has TLS but not this cipher: load its module ('modprobe gcm' or "
               "'modprobe "
               "chacha20poly1305'), or leave records to the user engine";
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return "the kernel knows no TLS on this socket: it is too old, or built without CONFIG_TLS";
    case EINVAL:
        return "the kernel does not know this cipher or TLS version: a newer kernel may, or choose "
               "another "
               "cipher";
    case EBUSY:
        return "the kernel already has keys for this direction and cannot change them (Linux 6.14 "
               "can)";
    case ENOTCONN:
        return "the connection ended before the kernel could take its keys";
    case EEXIST:
        return "another protocol is already attached to this socket";
    case ENOMEM:
        return "the kernel has no memory for the keys";
    case EPERM:
    case EACCES:
        return "a security policy or container forbids kernel TLS (allow the tls module and "
               "TCP_ULP)";
    case EBADMSG:
        return "the kernel refused a record: it was changed, repeated or reordered on the way";
    case EMSGSIZE:
        return "the kernel refused a record that is longer than TLS allows";
    case EKEYEXPIRED:
        return "the peer has changed its keys, and the kernel waits for the new ones";
    case ELIBBAD:
        return "the kernel's own test of this cipher has failed: choose another cipher, or leave "
               "records to the user engine";
    case EIO:
        return "a record that is not data arrived where the kernel expected data";
    default:
        return "the kernel refused TLS records for an unknown reason";
    }
}

int ktls_attach(int fd)
{
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0 || errno == EEXIST)
        return 0;
    return -errno;
}

/* One function per cipher */

union crypto_info {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes_gcm_128;
    struct tls12_crypto_info_aes_gcm_256 aes_gcm_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha20_poly1305;
};

static void ktls_put_seq(uint8_t *dst, uint64_t seq)
{
    for (int i = 7; i >= 0; i--, seq >>= 8)
        dst[i] = (uint8_t)seq;
}

/* The 8 bytes behind the salt: TLS 1.3 has them in its iv, TLS 1.2 sends them, and ours is the
 * sequence number. */
static void ktls_put_gcm_iv(uint8_t *dst, const struct record *record,
                            const struct record_half_keys *keys)
{
    if (record->version == RECORD_TLS13)
        memcpy(dst, keys->iv + 4, 8);
    else
        ktls_put_seq(dst, keys->seq);
}

static socklen_t ktls_fill_aes_128_gcm(const struct record *record,
                                       const struct record_half_keys *keys, union crypto_info *info)
{
    struct tls12_crypto_info_aes_gcm_128 *gcm = &info->aes_gcm_128;

    gcm->info.cipher_type = TLS_CIPHER_AES_GCM_128;
    memcpy(gcm->key, keys->key, sizeof(gcm->key));
    memcpy(gcm->salt, keys->iv, sizeof(gcm->salt));
    ktls_put_gcm_iv(gcm->iv, record, keys);
    ktls_put_seq(gcm->rec_seq, keys->seq);
    return sizeof(*gcm);
}

static socklen_t ktls_fill_aes_256_gcm(const struct record *record,
                                       const struct record_half_keys *keys, union crypto_info *info)
{
    struct tls12_crypto_info_aes_gcm_256 *gcm = &info->aes_gcm_256;

    gcm->info.cipher_type = TLS_CIPHER_AES_GCM_256;
    memcpy(gcm->key, keys->key, sizeof(gcm->key));
    memcpy(gcm->salt, keys->iv, sizeof(gcm->salt));
    ktls_put_gcm_iv(gcm->iv, record, keys);
    ktls_put_seq(gcm->rec_seq, keys->seq);
    return sizeof(*gcm);
}

static socklen_t ktls_fill_chacha20_poly1305(const struct record *record,
                                             const struct record_half_keys *keys,
                                             union crypto_info *info)
{
    struct tls12_crypto_info_chacha20_poly1305 *chacha = &info->chacha20_poly1305;

    (void)record;
    chacha->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
    memcpy(chacha->key, keys->key, sizeof(chacha->key));
    memcpy(chacha->iv, keys->iv, sizeof(chacha->iv));
    ktls_put_seq(chacha->rec_seq, keys->seq);
    return sizeof(*chacha);
}

static socklen_t ktls_fill(const struct record *record, const struct record_half_keys *keys,
                           union crypto_info *info)
{
    memset(info, 0, sizeof(*info));
    info->info.version =
        record->version; /* TLS_1_2_VERSION and TLS_1_3_VERSION are the wire's numbers */
    switch (record->cipher) {
    case RECORD_AES_128_GCM:
        return ktls_fill_aes_128_gcm(record, keys, info);
    case RECORD_AES_256_GCM:
        return ktls_fill_aes_256_gcm(record, keys, info);
    default:
        return ktls_fill_chacha20_poly1305(record, keys, info);
    }
}

static int ktls_set_keys(struct record *record, enum record_side side, int fd)
{
    struct record_half *half = record_half(record, side);
    union crypto_info info;
    socklen_t len = ktls_fill(record, &half->keys, &info);

    int option = side == RECORD_TX ? TLS_TX : TLS_RX;
    int result = setsockopt(fd, SOL_TLS, option, &info, len) == 0 ? 0 : -errno;
    OPENSSL_cleanse(&info, sizeof(info));
    return result == -ENOENT ? -ENOPKG : result; /* here it is the cipher that is not there */
}

int ktls_take(struct record *record, enum record_side side, int fd)
{
    struct record_half *half = record_half(record, side);

    CHECK(half->engine == RECORD_USER);
    CHECK(record->error == RECORD_ERROR_NONE && !half->closed);
    int result = ktls_set_keys(record, side, fd);
    if (result != 0)
        return result;
    record_user_stop(half);
    OPENSSL_cleanse(half->keys.key, sizeof(half->keys.key));
    half->engine = RECORD_KTLS;
    half->rekeyed = false;
    return 0;
}

int ktls_rekey(struct record *record, enum record_side side, int fd)
{
    struct record_half *half = record_half(record, side);

    CHECK(half->engine == RECORD_KTLS);
    int result = ktls_set_keys(record, side, fd);
    OPENSSL_cleanse(half->keys.key, sizeof(half->keys.key));
    return result;
}

/* Record types in control messages */

void ktls_send_type(struct msghdr *msg, void *control, enum record_type type)
{
    memset(control, 0, KTLS_CMSG_SIZE);
    msg->msg_control = control;
    msg->msg_controllen = KTLS_CMSG_SIZE;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
    cmsg->cmsg_level = SOL_TLS;
    cmsg->cmsg_type = TLS_SET_RECORD_TYPE;
    cmsg->cmsg_len = CMSG_LEN(sizeof(unsigned char));
    *CMSG_DATA(cmsg) = (unsigned char)type;
}

enum record_type ktls_recv_type(struct msghdr *msg)
{
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg))
        if (cmsg->cmsg_level == SOL_TLS && cmsg->cmsg_type == TLS_GET_RECORD_TYPE)
            return (enum record_type) * CMSG_DATA(cmsg);
    return RECORD_TYPE_DATA;
}
