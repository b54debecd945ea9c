package instance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// grace is how long a child may take to end after SIGTERM.
const grace = 5 * time.Second

// Child is a program that an instance started.
type Child struct {
	// Name is also the name of its log file, <Logs>/<name>.log.
	Name string
	// Log is the path of that file; stdout and stderr are appended to it.
	Log string

	command *exec.Cmd
	done    chan struct{}
	err     error
	ending  atomic.Bool
}

// Start runs command with its output in the log file of name. The kernel
// kills it when this process dies, whatever the reason (PDEATHSIG).
func (i *Instance) Start(name string, command *exec.Cmd) (*Child, error) {
	child := &Child{Name: name, Log: filepath.Join(i.Logs, name+".log"), command: command, done: make(chan struct{})}
	log, err := os.OpenFile(child.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A group of its own: Ctrl-C in a terminal reaches bed alone, which then
	// ends its children in order.
	command.SysProcAttr.Setpgid = true
	if err := onLastingThread(command.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		child.err = command.Wait()
		close(child.done)
	}()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.children = append(i.children, child)
	return child, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.command.Process.Pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// OnFailure calls report, once, when the child ends without having been told
// to by Stop or Kill.
func (c *Child) OnFailure(report func(error)) {
	go func() {
		<-c.done
		if !c.ending.Load() {
			report(newEndedError(c))
		}
	}()
}

// Stop ends the child: SIGTERM, and SIGKILL to its whole group when it takes
// longer than the grace period.
func (c *Child) Stop() {
	c.ending.Store(true)
	_ = c.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(grace):
	}
	c.Kill()
}

// Kill ends the child and its group at once and waits for it.
func (c *Child) Kill() {
	c.ending.Store(true)
	_ = syscall.Kill(-c.PID(), syscall.SIGKILL)
	<-c.done
}

// WaitReady calls ready every 50 ms until it answers nil. It fails when the
// child ends first or the deadline passes; the error then ends with the last
// lines of the child's log.
func (c *Child) WaitReady(ctx context.Context, deadline time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready (%v); the end of its log:\n%s", c.Name, c.err, c.LogTail(15))
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready after %s (%v); the end of its log:\n%s", c.Name, deadline, err, c.LogTail(15))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LogTail returns the last lines of the child's log.
func (c *Child) LogTail(lines int) string {
	file, err := os.Open(c.Log)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = file.Seek(-64<<10, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	all := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// onLastingThread runs start on an operating-system thread that lives as long
// as the process. PDEATHSIG fires when the *thread* that forked ends, and the
// Go runtime may end any other thread (https://github.com/golang/go/issues/27505).
func onLastingThread(start func() error) error {
	spawnerOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for job := range spawner {
				job.result <- job.start()
			}
		}()
	})
	job := spawn{start: start, result: make(chan error)}
	spawner <- job
	return <-job.result
}

type spawn struct {
	start  func() error
	result chan error
}

var (
	spawnerOnce sync.Once
	spawner     = make(chan spawn)
)
