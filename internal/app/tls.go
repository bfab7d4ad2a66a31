package app

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-sse/sluice/internal/certs"
)

// tlsFlags are of what a listener shows its clients, and asks them for.
type tlsFlags struct {
	TLSCert     string `name:"tls-cert" type:"existingfile" placeholder:"FILE" help:"The certificate to serve TLS with, in PEM, with those that lead to its authority. With it come HTTP/2 and HTTP/1.1, as clients like. These files are read again when they change, and no connection is cut."`
	TLSKey      string `name:"tls-key" type:"existingfile" placeholder:"FILE" help:"Its private key."`
	TLSClientCA string `name:"tls-client-ca" type:"existingfile" placeholder:"FILE" help:"The authorities whose certificates tell who a client is."`
}

// grpcTLSFlags are those of the gRPC face, where they differ.
type grpcTLSFlags struct {
	GRPCTLSCert     string `name:"grpc-tls-cert" type:"existingfile" placeholder:"FILE" help:"Another certificate for gRPC."`
	GRPCTLSKey      string `name:"grpc-tls-key" type:"existingfile" placeholder:"FILE" help:"Its private key."`
	GRPCTLSClientCA string `name:"grpc-tls-client-ca" type:"existingfile" placeholder:"FILE" help:"Other authorities for clients of gRPC."`
}

// serverTLSFlags are of the connection from a bridge to its server.
type serverTLSFlags struct {
	ServerTLS  bool   `name:"server-tls" help:"Speak TLS with the server. The flags below imply it."`
	ServerCA   string `name:"server-ca" type:"existingfile" placeholder:"FILE" help:"The authorities that the server's certificate may be of. Without it: those that this system trusts."`
	ServerCert string `name:"server-cert" type:"existingfile" placeholder:"FILE" help:"The certificate by which the bridge proves to the server who it is."`
	ServerKey  string `name:"server-key" type:"existingfile" placeholder:"FILE" help:"Its private key."`
}

// httpFiles are the files of the HTTP face; of no names where it has no TLS.
func (f *tlsFlags) httpFiles() (certs.Files, error) {
	return listenerFiles("", certs.Files{Cert: f.TLSCert, Key: f.TLSKey, CA: f.TLSClientCA})
}

// grpcFiles are those of the gRPC face.
func (f *grpcTLSFlags) grpcFiles(common *tlsFlags) (certs.Files, error) {
	files := certs.Files{Cert: f.GRPCTLSCert, Key: f.GRPCTLSKey, CA: f.GRPCTLSClientCA}
	prefix := "grpc-"
	if files.Cert == "" && files.Key == "" {
		files.Cert, files.Key, prefix = common.TLSCert, common.TLSKey, ""
	}
	files.CA = cmp.Or(files.CA, common.TLSClientCA)
	return listenerFiles(prefix, files)
}

// listenerFiles refuses what would leave a listener without the TLS that is meant.
func listenerFiles(prefix string, f certs.Files) (certs.Files, error) {
	if (f.Cert == "") != (f.Key == "") {
		return f, fmt.Errorf("--%[1]stls-cert and --%[1]stls-key need each other", prefix)
	}
	if f.CA != "" && f.Cert == "" {
		return f, fmt.Errorf("--%[1]stls-client-ca: it needs --%[1]stls-cert and --%[1]stls-key", prefix)
	}
	return f, nil
}

// serverCredentials are those of a bridge towards its server.
func (f *serverTLSFlags) serverCredentials(p *program) (credentials.TransportCredentials, error) {
	files := certs.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.ServerCA}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("--server-cert and --server-key need each other")
	}
	if !f.ServerTLS && files == (certs.Files{}) {
		return insecure.NewCredentials(), nil
	}
	store, err := p.certificates(files)
	if err != nil {
		return nil, err
	}
	return store.ClientCredentials(), nil
}

// listenerTLS is the TLS of a listener.
type listenerTLS struct {
	config *tls.Config
	store  *certs.Store
	file   string // of the certificate
}

// listenerTLS returns that of one with such files, which speaks protocols; nil: it has none.
func (p *program) listenerTLS(files certs.Files, protocols ...string) (*listenerTLS, error) {
	if files.Cert == "" {
		return nil, nil
	}
	store, err := p.certificates(files)
	if err != nil {
		return nil, err
	}
	return &listenerTLS{store.ServerConfig(protocols...), store, files.Cert}, nil
}

// certificates returns the same store for the same files, so that these are read once.
func (p *program) certificates(files certs.Files) (*certs.Store, error) {
	if s := p.stores[files]; s != nil {
		return s, nil
	}
	s, err := certs.Open(files, p.log)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if p.stores == nil {
		p.stores = map[certs.Files]*certs.Store{}
	}
	p.stores[files] = s
	return s, nil
}
