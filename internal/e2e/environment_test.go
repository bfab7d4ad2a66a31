package e2e

import (
	"testing"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// The program itself looks at its environment.
func TestUnknownVariableIsTold(t *testing.T) {
	t.Setenv("SLUICE_MAXBODY", "1")
	p := testbed.Start(t, "main --http=127.0.0.1:0 --grpc=127.0.0.1:0")
	p.AwaitLog("sluice: warning: the variable SLUICE_MAXBODY stands for no flag: did you mean SLUICE_MAX_BODY?")
	p.Stop()
}
