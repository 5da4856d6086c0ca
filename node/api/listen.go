package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	socketName = "sheaf.sock"
	shortName  = "sheaf-sock-" // directories for sockets of homes with long names

	// maxSocketPath is what fits into sun_path on every system we run on: 104
	// bytes with the closing zero on macOS and the BSDs, 108 on Linux.
	maxSocketPath = 103
)

// Listeners are the doors of a node: the socket in its home, and loopback TCP
// if wanted.
type Listeners struct {
	socket net.Listener
	tcp    net.Listener
	remove []string // paths that go with the socket, in this order
}

// Listen opens $home/sheaf.sock, mode 0600, and tcp ("127.0.0.1:8390", port 0
// for any; "" for none). A socket left by a node that died is replaced; one
// that answers gives ErrConflict.
//
// Where the socket's path is too long for the system, the socket is made in a
// new private directory under $XDG_RUNTIME_DIR or the temporary directory, and
// $home/sheaf.sock is a symbolic link to it, which Client follows.
func Listen(home, tcp string) (_ *Listeners, err error) {
	l := &Listeners{}
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	if err := l.listenSocket(home); err != nil {
		return nil, err
	}
	if tcp == "" {
		return l, nil
	}
	host, _, err := net.SplitHostPort(tcp)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, Errorf(ErrUsage, "give 127.0.0.1:PORT", "the API cannot be served on %q: it is for this machine alone", tcp)
	}
	if l.tcp, err = net.Listen("tcp", tcp); err != nil {
		return nil, &Error{Kind: ErrFailed, Message: "the API cannot be served on " + tcp + ": " + err.Error(), Remedy: "another program may have that port: give another with --api", Cause: err}
	}
	return l, nil
}

func (l *Listeners) listenSocket(home string) error {
	path, err := socketAt(home)
	if err != nil {
		return err
	}
	if target := dialable(path); target != "" {
		conn, err := net.DialTimeout("unix", target, time.Second)
		if err == nil {
			_ = conn.Close()
			return Errorf(ErrConflict, "stop it with `sheaf down`, or use another --home", "a node is running for %s already", home)
		}
		// Nobody answers: the socket and its directory are what a node left
		// that was killed.
		if target != path && strings.HasPrefix(filepath.Base(filepath.Dir(target)), shortName) {
			_ = os.Remove(target)
			_ = os.Remove(filepath.Dir(target))
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	bind := path
	if len(path) > maxSocketPath {
		dir, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), shortName) // mode 0700
		if err != nil {
			dir, err = os.MkdirTemp("", shortName)
		}
		if err != nil {
			return fmt.Errorf("the path %s is too long for a socket, and no other place was found: %w", path, err)
		}
		bind = filepath.Join(dir, "s")
		l.remove = append(l.remove, bind, dir)
		if len(bind) > maxSocketPath {
			return Errorf(ErrFailed, "use a --home with a shorter path", "the path %s is too long for a socket", path)
		}
	}
	listener, err := net.Listen("unix", bind)
	if err != nil {
		return fmt.Errorf("open the socket %s: %w", bind, err)
	}
	// The home and a temporary directory are 0700, so that nobody comes in
	// between bind and chmod.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	l.socket = listener
	l.remove = append([]string{path}, l.remove...)
	if err := os.Chmod(bind, 0o600); err != nil {
		return fmt.Errorf("close the socket to others: %w", err)
	}
	if bind != path {
		if err := os.Symlink(bind, path); err != nil {
			return fmt.Errorf("link the socket: %w", err)
		}
	}
	return nil
}

// Socket gives the listener of the socket, for a program that answers to something else
// than Server does.
func (l *Listeners) Socket() net.Listener { return l.socket }

// DialSocket connects to the socket of a home; ErrNotRunning if nobody answers there.
func DialSocket(ctx context.Context, home string) (net.Conn, error) {
	path, err := socketAt(home)
	if err != nil {
		return nil, err
	}
	target := dialable(path)
	if target == "" {
		return nil, errNoSocket
	}
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", target)
}

// TCPAddr gives the address of the TCP door with its true port, "" if there is
// none.
func (l *Listeners) TCPAddr() string {
	if l.tcp == nil {
		return ""
	}
	return l.tcp.Addr().String()
}

// Close closes the doors and removes the socket. It may be called again.
func (l *Listeners) Close() error {
	var errs []error
	for _, listener := range []net.Listener{l.tcp, l.socket} {
		if listener == nil {
			continue
		}
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close the API: %w", err))
		}
	}
	for _, path := range l.remove {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the socket: %w", err))
		}
	}
	l.remove = nil
	return errors.Join(errs...)
}

func socketAt(home string) (string, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("find the home %s: %w", home, err)
	}
	return filepath.Join(abs, socketName), nil
}

// dialable gives the name by which the socket at path can be dialled, "" if
// there is none.
func dialable(path string) string {
	if target, err := os.Readlink(path); err == nil {
		path = target
	}
	if len(path) > maxSocketPath {
		return ""
	}
	return path
}

// IsNoSocket tells whether an error of DialSocket is that there is no socket.
func IsNoSocket(err error) bool { return errors.Is(err, errNoSocket) }
