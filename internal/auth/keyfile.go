package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// keyFile has the API keys of a file, as it is now.
type keyFile struct {
	name    string
	content []byte
	trouble trouble
	log     *slog.Logger
	keys    atomic.Pointer[keys]
}

// newKeyFile reads a file.
func newKeyFile(name string, log *slog.Logger) (*keyFile, error) {
	f := &keyFile{name: name, log: log, trouble: trouble{log: log, what: "the API keys in " + name}}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("read the API keys in %s: %w", name, err)
	}
	return f, nil
}

// watch reads the file again and again until ctx is done.
func (f *keyFile) watch(ctx context.Context) {
	every(ctx, pollInterval, func() time.Duration {
		f.trouble.is(f.read())
		return pollInterval
	})
}

// read reads the file. A file that is broken changes nothing.
func (f *keyFile) read() error {
	content, err := readFile(f.name)
	if err != nil {
		return err
	}
	if f.keys.Load() != nil && bytes.Equal(content, f.content) {
		return nil
	}
	k, err := parseKeys(content)
	if err != nil {
		return err
	}
	f.content = content
	f.keys.Store(k)
	f.log.Info("API keys", "file", f.name, "keys", len(k.principals))
	return nil
}

func (f *keyFile) principal(key string) (string, bool) { return f.keys.Load().principal(key) }

// keys are API keys by their hashes. The key to the map is a hash of that hash and of
// random bytes that nobody knows: so whatever the time says in which two of them are
// compared, it says nothing about a key.
type keys struct {
	salt       [sha256.Size]byte
	principals map[[sha256.Size]byte]string
}

func (k *keys) index(hash [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(k.salt[:], hash[:]...))
}

func (k *keys) principal(key string) (string, bool) {
	p, ok := k.principals[k.index(sha256.Sum256([]byte(key)))]
	return p, ok
}

// parseKeys reads a file of API keys. A line has a principal, and a key's hash as HashKey
// makes it. A principal may have more lines, so that it can change its key. Lines that are
// empty, or begin with #, say nothing. The errors name a line by its number: it may be a
// key that somebody has put there.
//
// A file without a byte is what is left of a write that failed, and none without keys.
func parseKeys(content []byte) (*keys, error) {
	if len(content) == 0 {
		return nil, errors.New("it is empty: with no keys in force, leave a comment (#) in it")
	}
	k := &keys{principals: map[[sha256.Size]byte]string{}}
	_, _ = rand.Read(k.salt[:]) // it never fails
	number := 0
	for line := range bytes.Lines(content) {
		number++
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: it is not PRINCIPAL HASH", number)
		}
		if err := checkPrincipal(fields[0]); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		var hash [sha256.Size]byte
		if n, err := hex.Decode(hash[:], []byte(clipped(fields[1]))); err != nil || n != len(hash) || len(fields[1]) != 2*len(hash) {
			return nil, fmt.Errorf("line %d: the hash is not one of sluice hash-key", number)
		}
		at := k.index(hash)
		if other, ok := k.principals[at]; ok && other != fields[0] {
			return nil, fmt.Errorf("line %d: another principal has the same key", number)
		}
		k.principals[at] = fields[0]
	}
	return k, nil
}

// clipped is as much of a hash as there is room for.
func clipped(hash string) string { return hash[:min(len(hash), 2*sha256.Size)] }

// maxPrincipal is the longest name of a principal, in bytes.
const maxPrincipal = 256

func checkPrincipal(name string) error {
	switch {
	case name == "" || len(name) > maxPrincipal:
		return fmt.Errorf("a principal has 1 to %d bytes", maxPrincipal)
	case strings.HasPrefix(name, "#"):
		return errors.New("a principal does not begin with #, as comments do")
	case name == Anonymous:
		return fmt.Errorf("the principal %s is that of callers without credentials", Anonymous)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return errors.New("a principal is printable, and has no spaces")
	}
	return nil
}

// HashKey returns the line of a key in the key file. SHA-256 is enough for keys that
// nobody can guess; it refuses those that have less than 128 bits.
func HashKey(principal, key string) (line string, err error) {
	if err := checkPrincipal(principal); err != nil {
		return "", err
	}
	if key == "" {
		return "", errors.New("there is no key")
	}
	// RFC 6750 section 2.1
	if strings.ContainsFunc(strings.TrimRight(key, "="), func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-._~+/", r) }) {
		return "", errors.New("the key cannot be sent as a bearer: it may have letters, digits and -._~+/, and = at its end")
	}
	if len(key) > maxBearer {
		return "", fmt.Errorf("the key has more than %d bytes", maxBearer)
	}
	if bits := strength(key); bits < 128 {
		return "", fmt.Errorf("the key can be guessed: it has %d bits of 128 that are needed. openssl rand -hex 32 makes one", int(bits))
	}
	hash := sha256.Sum256([]byte(key))
	return principal + " " + hex.EncodeToString(hash[:]), nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// uuid matches one; of a random one, six bits are not (RFC 9562 section 5.4).
var uuid = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// strength is how many bits a key has if it is random, of the smallest alphabet that is in
// use and has all its characters. Of few different ones, it is not random.
func strength(key string) float64 {
	key = strings.TrimRight(key, "=")
	different := map[rune]bool{}
	for _, r := range key {
		different[r] = true
	}
	if len(different) < 6 {
		return 0
	}
	only := func(alphabet string) bool { return strings.Trim(key, alphabet) == "" }
	const digits = "0123456789"
	size := 64.0
	switch {
	case only(digits):
		size = 10
	case uuid.MatchString(key):
		return 122
	case only(digits + "abcdef"), only(digits + "ABCDEF"):
		size = 16
	case only(digits + "abcdefghijklmnopqrstuvwxyz"), only(digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
		size = 32
	}
	return float64(len(key)) * math.Log2(size)
}
