package testbed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates that are good for an hour.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	above       []byte // the certificates from the next authority up, in PEM
}

// NewAuthority returns one that nobody knows yet.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{key: newKey(tb)}
	return a.Renewed(tb)
}

// Renewed returns the authority with another certificate for the same key.
func (a *Authority) Renewed(tb testing.TB) *Authority {
	tb.Helper()
	template := authorityFor("authority of a test")
	renewed := &Authority{key: a.key}
	renewed.certify(tb, template, template, a.key)
	return renewed
}

// Below returns an authority whose certificate is one of a's, changed before it is signed.
func (a *Authority) Below(tb testing.TB, change func(*x509.Certificate)) *Authority {
	tb.Helper()
	template := authorityFor("authority below one of a test")
	change(template)
	below := &Authority{key: newKey(tb), above: bytes.Join([][]byte{a.PEM(), a.above}, nil)}
	below.certify(tb, template, a.Certificate, a.key)
	return below
}

func authorityFor(name string) *x509.Certificate {
	template := certificateFor(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	return template
}

func (a *Authority) certify(tb testing.TB, template, parent *x509.Certificate, by *ecdsa.PrivateKey) {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, by)
	if err == nil {
		a.Certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Pool returns the authority as one that is trusted.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// Issue returns a certificate for names, which may be addresses or URIs, with the
// authority's own behind it, and the private key.
func (a *Authority) Issue(tb testing.TB, names ...string) (cert, key []byte) {
	tb.Helper()
	return a.IssueAs(tb, func(*x509.Certificate) {}, names...)
}

// IssueAs is Issue of a certificate that is changed before it is signed.
func (a *Authority) IssueAs(tb testing.TB, change func(*x509.Certificate), names ...string) (cert, key []byte) {
	tb.Helper()
	template := certificateFor(names[0])
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if uri, err := url.Parse(name); err == nil && uri.Scheme != "" {
			template.URIs = append(template.URIs, uri)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	change(template)
	return a.sign(tb, template)
}

// IssueExpired is Issue an hour ago.
func (a *Authority) IssueExpired(tb testing.TB, name string) (cert, key []byte) {
	tb.Helper()
	template := certificateFor(name)
	template.DNSNames, template.NotAfter = []string{name}, time.Now().Add(-time.Second)
	return a.sign(tb, template)
}

func (a *Authority) sign(tb testing.TB, template *x509.Certificate) (cert, key []byte) {
	tb.Helper()
	private := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, &private.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return bytes.Join([][]byte{leaf, a.PEM(), a.above}, nil), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// Client returns what a client of a test uses: it trusts the authority, and proves to be
// those names, if there are any.
func (a *Authority) Client(tb testing.TB, names ...string) *tls.Config {
	tb.Helper()
	config := &tls.Config{RootCAs: a.Pool()}
	if len(names) > 0 {
		pair, err := tls.X509KeyPair(a.Issue(tb, names...))
		if err != nil {
			tb.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// CertFiles are the files of a certificate.
type CertFiles struct{ Cert, Key, CA string }

// NewCertFiles writes a certificate for this machine, and the authority's.
func (a *Authority) NewCertFiles(tb testing.TB) *CertFiles {
	tb.Helper()
	dir := tb.TempDir()
	f := &CertFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")}
	f.Renew(tb, a)
	WriteFile(tb, f.CA, a.PEM())
	return f
}

// Renew has the authority issue the certificate anew.
func (f *CertFiles) Renew(tb testing.TB, a *Authority) {
	tb.Helper()
	cert, key := a.Issue(tb, "localhost", "127.0.0.1", "::1")
	WriteFile(tb, f.Cert, cert)
	WriteFile(tb, f.Key, key)
}

// WriteFile writes a file that nobody else may read.
func WriteFile(tb testing.TB, name string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func certificateFor(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}
