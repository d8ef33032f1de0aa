package chdb

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// sigactionSize is more than struct sigaction takes on any supported platform (152 bytes with
// glibc, 16 on Darwin). The struct is only carried from one call to the next, never read.
const sigactionSize = 256

// keepSignalHandlers runs call and puts back every disposition that it may have changed. The
// library promises not to touch them once its handlers are switched off, but versions exist in
// which switching them off, and each connect, reset the deadly signals to their default, and with
// them the handlers by which the Go runtime turns a fault into a panic.
func keepSignalHandlers(call func()) error {
	sigaction, err := bindSigaction()
	if err != nil {
		return err
	}
	signals := []syscall.Signal{
		syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGILL, syscall.SIGBUS, syscall.SIGSYS,
		syscall.SIGFPE, syscall.SIGTSTP, syscall.SIGTRAP,
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGURG,
	}
	saved := make([][sigactionSize]byte, len(signals))
	for i, sig := range signals {
		if sigaction(int32(sig), nil, unsafe.Pointer(&saved[i])) != 0 {
			return fmt.Errorf("reading the handler of %s", sig)
		}
	}
	call()
	for i, sig := range signals {
		if sigaction(int32(sig), unsafe.Pointer(&saved[i]), nil) != 0 {
			return fmt.Errorf("restoring the handler of %s", sig)
		}
	}
	return nil
}

func bindSigaction() (func(sig int32, act, old unsafe.Pointer) int32, error) {
	name := "libc.so.6"
	if runtime.GOOS == "darwin" {
		name = "/usr/lib/libSystem.B.dylib"
	}
	libc, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", name, err)
	}
	address, err := purego.Dlsym(libc, "sigaction")
	if err != nil {
		return nil, fmt.Errorf("finding sigaction: %w", err)
	}
	var sigaction func(sig int32, act, old unsafe.Pointer) int32
	purego.RegisterFunc(&sigaction, address)
	return sigaction, nil
}
