package app

import (
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/certs"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// What would leave somebody without the TLS that is meant is refused at the start.
func TestTLSFlagsAreChecked(t *testing.T) {
	f := testbed.NewAuthority(t).NewCertFiles(t)
	loopback := "--http=127.0.0.1:0 --grpc=127.0.0.1:0 "
	for args, want := range map[string]string{
		loopback + "--tls-cert=CERT":                                                 "--tls-cert and --tls-key need each other",
		loopback + "--tls-key=KEY":                                                   "--tls-cert and --tls-key need each other",
		loopback + "--grpc-tls-key=KEY":                                              "--grpc-tls-cert and --grpc-tls-key need each other",
		loopback + "--tls-client-ca=CA":                                              "tls-client-ca: it needs --",
		loopback + "--tls-cert=CERT --tls-key=CA":                                    "certificates: ",
		loopback + "--tls-cert=missing.pem --tls-key=KEY":                            "missing.pem",
		loopback + "--max-header=512":                                                "--max-header=512: it may be from 1KiB to 16MiB",
		loopback + "--max-header=1GiB":                                               "it may be from 1KiB to 16MiB",
		loopback + "--max-connections=0":                                             `"0" is not a whole number`,
		"bridge --http=127.0.0.1:0 --server-key=KEY":                                 "--server-cert and --server-key need each other",
		"bridge --http=127.0.0.1:0 --server-ca=KEY":                                  "0 certificates",
		"bridge --http=127.0.0.1:0 --tls-cert=CERT --tls-key=KEY --tls-client-ca=CA": "a bridge alone cannot tell its server",
		"server --grpc=0.0.0.0:0 --tls-cert=CERT --tls-key=KEY":                      "others can reach this address",
	} {
		t.Run(args, func(t *testing.T) {
			line := strings.NewReplacer("CERT", f.Cert, "KEY", f.Key, "CA", f.CA).Replace(args)
			var out, log strings.Builder
			err := Run(t.Context(), strings.Fields(line), func(string) string { return "" }, &out, &log)
			if !strings.Contains(errorText(err), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// The files of gRPC are its own, or else those of both; a certificate and its key are one.
func TestGRPCFiles(t *testing.T) {
	for _, tt := range []struct {
		grpc grpcTLSFlags
		both tlsFlags
		want certs.Files
	}{
		{grpcTLSFlags{}, tlsFlags{}, certs.Files{}},
		{grpcTLSFlags{}, tlsFlags{"c", "k", "a"}, certs.Files{Cert: "c", Key: "k", CA: "a"}},
		{grpcTLSFlags{"gc", "gk", ""}, tlsFlags{"c", "k", "a"}, certs.Files{Cert: "gc", Key: "gk", CA: "a"}},
		{grpcTLSFlags{"", "", "ga"}, tlsFlags{"c", "k", "a"}, certs.Files{Cert: "c", Key: "k", CA: "ga"}},
		{grpcTLSFlags{"gc", "gk", "ga"}, tlsFlags{}, certs.Files{Cert: "gc", Key: "gk", CA: "ga"}},
	} {
		if got, err := tt.grpc.grpcFiles(&tt.both); err != nil || got != tt.want {
			t.Errorf("%+v and %+v: got %+v, %v", tt.grpc, tt.both, got, err)
		}
	}
	if _, err := (&grpcTLSFlags{GRPCTLSCert: "gc"}).grpcFiles(&tlsFlags{"c", "k", ""}); err == nil {
		t.Error("a certificate is used with another one's key")
	}
}
