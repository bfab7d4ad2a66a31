package testbed

import (
	"os/exec"
	"syscall"
)

// dieWithParent has a command be killed when this process ends, however that ends: a test
// that is killed at its time limit cleans nothing up.
//
// The system kills it when the thread ends that started it. Go ends one only when a
// goroutine that is locked to it ends, and no test that starts a store locks one.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
