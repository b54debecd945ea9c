package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// leftFile, under .bed, lists what a run with Keep left up.
const leftFile = "demo.json"

// grace is how long a process may take to end after SIGTERM. A whole cluster
// ends its Pods first.
const grace = 30 * time.Second

// process is a program that the demo started.
type process struct {
	command *exec.Cmd
	log     string
	done    chan struct{}
	err     error
	// stdin is the end that we hold: closing it, or dying, ends a verb.
	stdin *os.File
}

// start runs a program with its output in log. With keep it outlives this
// process and never sees the end of its stdin.
func start(command *exec.Cmd, log string, keep bool) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if command.Stdout == nil {
		command.Stdout = file
	}
	command.Stderr = file
	stdin, err := giveStdin(command, keep)
	if err != nil {
		return nil, err
	}
	// A group of its own: Ctrl-C reaches the demo alone, which ends the rest
	// in order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(command.Path), err)
	}
	p := &process{command: command, log: log, done: make(chan struct{}), stdin: stdin}
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// giveStdin gives the command a stdin that ends when this process does or,
// with keep, one that never ends: the command holds its other end itself.
func giveStdin(command *exec.Cmd, keep bool) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command.Stdin = read
	if keep {
		command.ExtraFiles = append(command.ExtraFiles, write)
	}
	return write, nil
}

// verb runs a long-running verb of bed and reads its ready line into ready.
// The exit code of a verb that ended instead is in the error.
func (d *demo) verb(ctx context.Context, ready any, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(self, args...)
	output, input, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	command.Stdout = input
	log := d.frame.Path("logs", args[0]+".log")
	p, err := start(command, log, d.Keep)
	input.Close()
	if err != nil {
		return err
	}
	d.processes = append(d.processes, p)
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(output).ReadString('\n')
		line <- text
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case text := <-line:
		if text == "" {
			<-p.done
			return &verbError{verb: args[0], code: p.command.ProcessState.ExitCode(), text: tail(log)}
		}
		return json.Unmarshal([]byte(text), ready)
	}
}

// verbError says that a verb ended before it was ready.
type verbError struct {
	verb string
	code int
	text string
}

func (e *verbError) Error() string { return e.text }

// end tells the process to end and waits for it.
func (p *process) end() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// tail returns the last lines of a log.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 16<<10 {
		_, _ = file.Seek(-16<<10, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// left is what a run with Keep left up.
type left struct {
	PIDs []int  `json:"pids"`
	Dir  string `json:"dir"`
}

func writeLeft(path string, processes []*process, dir string) error {
	l := left{Dir: dir}
	for _, p := range processes {
		l.PIDs = append(l.PIDs, p.command.Process.Pid)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func readLeft(path string) (left, error) {
	var l left
	text, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(text, &l)
}

// end stops the processes, last started first. One that is gone, or whose
// number another program has now, is left alone.
func (l left) end() {
	for n := len(l.PIDs) - 1; n >= 0; n-- {
		if !ours(l.PIDs[n]) {
			continue
		}
		_ = syscall.Kill(l.PIDs[n], syscall.SIGTERM)
		for deadline := time.Now().Add(grace); time.Now().Before(deadline) && ours(l.PIDs[n]); {
			time.Sleep(50 * time.Millisecond)
		}
	}
	_ = os.RemoveAll(l.Dir)
}

// ours tells whether a process is bed or pullpass.
func ours(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return false
	}
	switch strings.TrimSpace(string(name)) {
	case "bed", "pullpass":
		return true
	}
	return false
}

// exitCode of a verb that ended before it was ready, or -1.
func exitCode(err error) int {
	var failed *verbError
	if errors.As(err, &failed) {
		return failed.code
	}
	return -1
}
