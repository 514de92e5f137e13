/**
 * Notices of a seat, at the top of JupyterLab and Notebook: written by hand, loaded as it is, no build.
 *
 * JupyterLab (4.x) loads this script, calls `init` with webpack's share scope and `get` for the plugin (module
 * federation's container interface). Nothing is evaluated, no style is inline, nothing comes from another host.
 *
 * The server says how many seconds are left, on the hub's clock; this page counts down from there by itself. Screen
 * readers hear a notice when it comes and at a few marks, not every second.
 */
(() => {
  'use strict';

  const NAME = 'orchestra-seat';
  const HERE = document.currentScript.src;
  const NO_DISMISSING_BELOW_S = 120;
  const URGENT_BELOW_S = 60;
  const SPOKEN_AT_S = [600, 300, 120, 60, 30];
  const FIRST_REFRESH_S = 10;
  const SIGNED_OUT_REFRESH_S = 3;

  let sharedModules = null;

  async function shared(name) {
    const versions = Object.values(sharedModules[name] || {});
    const best = versions.find(version => version.loaded) || versions[0];
    return (await best.get())();
  }

  // --- what is said: pure ------------------------------------------------------------------------------------------

  function span(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) {
      return `${whole} s`;
    }
    if (whole < NO_DISMISSING_BELOW_S) {
      return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    }
    if (whole < 3600) {
      return `${Math.floor(whole / 60)} min`;
    }
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  }

  function clockTime(iso) {
    return new Date(iso).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
  }

  function endSentence(seconds, endsAt) {
    if (seconds < 1) {
      return 'This workshop has ended and its notebooks are being stopped. You can download your work from ';
    }
    return (
      `This workshop ends in ${span(seconds)} (at ${clockTime(endsAt)}). ` +
      'Save your work; afterwards you can download it from '
    );
  }

  function idleSentence(seconds) {
    if (seconds < 1) {
      return 'This notebook is about to stop because nothing has happened here.';
    }
    return `This notebook stops in ${span(seconds)} because nothing has happened here.`;
  }

  // --- the server --------------------------------------------------------------------------------------------------

  function cookie(name) {
    const found = document.cookie.match(`\\b${name}=([^;]*)\\b`);
    return found ? found[1] : '';
  }

  /** One question to our own server, signed as JupyterLab's ServerConnection signs its own. */
  async function ask(settings, path, method) {
    const headers = { Accept: 'application/json' };
    if (settings.token) {
      headers.Authorization = `token ${settings.token}`;
    }
    const xsrf = cookie('_xsrf');
    if (xsrf) {
      headers['X-XSRFToken'] = xsrf;
    }
    const response = await fetch(`${settings.baseUrl}orchestra/${path}`, {
      method,
      headers,
      cache: 'no-store',
      credentials: 'same-origin'
    });
    if (!response.ok) {
      const error = new Error(`${path}: status ${response.status}`);
      error.signedOut = response.status === 401 || response.status === 403;
      throw error;
    }
    return response.json();
  }

  // --- one notice: a line with a text and buttons ------------------------------------------------------------------

  function element(tag, className, text) {
    const node = document.createElement(tag);
    node.className = className;
    if (text) {
      node.textContent = text;
    }
    return node;
  }

  class Notice {
    constructor(kind, speak) {
      this.node = element('div', 'orchestra-seat-notice');
      this.node.dataset.notice = kind;
      this.node.hidden = true;
      this.words = document.createTextNode('');
      this.text = element('div', 'orchestra-seat-text');
      this.text.append(this.words);
      this.dismiss = element('button', '', 'Dismiss');
      this.dismiss.type = 'button';
      this.dismiss.addEventListener('click', () => {
        this.dismissed = true;
        this.node.hidden = true;
        this.changed();
      });
      this.node.append(this.text, this.dismiss);
      this.speak = speak;
      this.changed = () => {};
      this.dismissed = false;
      this.lastSeconds = Infinity;
      this.target = null;
    }

    /** Show, change or hide, with `seconds` left until `target`, warned from `from` seconds on. */
    show(seconds, from, target, sentence) {
      const due = seconds !== null && seconds <= from;
      if (!due || target !== this.target) {
        this.dismissed = false;
        this.lastSeconds = Infinity;
      }
      this.target = due ? target : null;
      const last = seconds !== null && seconds < NO_DISMISSING_BELOW_S;
      this.node.hidden = !due || (this.dismissed && !last);
      if (this.node.hidden) {
        return;
      }
      const said = sentence(seconds);
      if (this.words.data !== said) {
        this.words.data = said;
      }
      if (last && document.activeElement === this.dismiss) {
        this.dismiss.blur();
      }
      this.dismiss.hidden = last;
      this.node.classList.toggle('orchestra-mod-urgent', seconds < URGENT_BELOW_S);
      if (SPOKEN_AT_S.concat(0, from).some(mark => seconds <= mark && mark < this.lastSeconds)) {
        this.speak(this.text.textContent);
      }
      this.lastSeconds = seconds;
    }
  }

  function endNotice(speak) {
    const notice = new Notice('end', speak);
    const link = element('a', '', "the workshop's page");
    link.target = '_blank';
    link.rel = 'noopener';
    notice.text.append(link, '.');
    notice.leadTo = url => {
      if (/^https?:\/\//.test(url) && link.href !== url) {
        link.href = url;
      }
    };
    return notice;
  }

  function idleNotice(speak, keep) {
    const notice = new Notice('idle', speak);
    const button = element('button', 'orchestra-mod-primary', 'Keep it running');
    button.type = 'button';
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await keep();
      } catch (error) {
        console.warn('orchestra-seat: keep failed', error);
        speak('That did not work. Please try again.');
      }
      button.disabled = false;
    });
    notice.node.insertBefore(button, notice.dismiss);
    return notice;
  }

  /** The sign-in ended while the page is open: sign in again in a second tab, this one stays as it is. */
  function signInNotice(speak, url) {
    const node = element('div', 'orchestra-seat-notice orchestra-mod-urgent');
    node.dataset.notice = 'sign-in';
    node.hidden = true;
    const text = element('div', 'orchestra-seat-text', 'You are no longer signed in. Nothing on this page is lost: ');
    const link = element('a', '', 'sign in again');
    link.id = 'orchestra-sign-in';
    link.href = url;
    link.target = '_blank';
    let tab = null;
    link.addEventListener('click', event => {
      event.preventDefault();
      tab = window.open(url, '_blank');
    });
    text.append(link, ' in a second tab and go on here.');
    node.append(text);
    const show = signedOut => {
      if (signedOut && node.hidden) {
        speak(text.textContent);
      }
      if (!signedOut && tab) {
        tab.close();
        tab = null;
      }
      node.hidden = !signedOut;
    };
    return { node, show };
  }

  // --- the bar -----------------------------------------------------------------------------------------------------

  class Bar {
    constructor(settings) {
      this.settings = settings;
      this.node = document.createElement('div');
      this.node.setAttribute('role', 'region');
      this.node.setAttribute('aria-label', 'Workshop notices');
      this.inner = document.createElement('div');
      this.spoken = element('div', 'orchestra-seat-spoken');
      this.spoken.setAttribute('role', 'status');
      this.spoken.setAttribute('aria-live', 'polite');
      const speak = text => {
        this.spoken.textContent = text;
      };
      this.end = endNotice(speak);
      this.idle = idleNotice(speak, () => this.keep());
      this.end.changed = this.idle.changed = () => this.resized();
      this.signIn = signInNotice(speak, `${settings.baseUrl}orchestra/signed-in`);
      this.inner.append(this.signIn.node, this.end.node, this.idle.node);
      this.node.append(this.inner, this.spoken);
      this.resized = () => {};
      this.answer = null;
      this.answeredAt = 0;
      this.signedOut = false;
    }

    /** Whether the server still knows the person in front of this page. */
    known(signedOut) {
      this.signedOut = signedOut;
      this.signIn.show(signedOut);
      this.resized();
    }

    take(answer) {
      this.known(false);
      this.answer = answer;
      this.answeredAt = Date.now();
      this.draw();
    }

    async keep() {
      this.take(await ask(this.settings, 'keep', 'POST'));
    }

    draw() {
      const answer = this.answer;
      if (!answer) {
        return;
      }
      const passed = (Date.now() - this.answeredAt) / 1000;
      const left = seconds => (seconds === null ? null : Math.max(0, seconds - passed));
      const { idle, ends_at: endsAt, page_url: pageUrl } = answer;
      const ended = answer.seconds_left !== null && left(answer.seconds_left) < 1;
      this.end.leadTo(pageUrl || '');
      this.end.show(left(answer.seconds_left), answer.warn_from_s, endsAt, seconds => endSentence(seconds, endsAt));
      const idleFirst = idle && (answer.seconds_left === null || idle.seconds_left < answer.seconds_left);
      this.idle.show(
        idleFirst && !ended ? left(idle.seconds_left) : null,
        idle ? idle.warn_from_s : 0,
        'idle',
        idleSentence
      );
      this.resized();
    }

    async refresh(path = 'notices', method = 'GET') {
      try {
        this.take(await ask(this.settings, path, method));
      } catch (error) {
        if (error.signedOut) {
          this.known(true);
        }
        console.debug('orchestra-seat: no answer about notices, counting on', error);
      }
    }

    /**
     * Ask and count for as long as the page lives; a page that comes back into sight asks at once. The first question
     * is 'keep': a person has opened the page, which is activity.
     */
    run() {
      let timer = 0;
      const again = async (...question) => {
        clearTimeout(timer);
        await this.refresh(...question);
        clearTimeout(timer);
        timer = setTimeout(() => void again(), 1000 * ((this.answer && this.answer.refresh_s) || FIRST_REFRESH_S));
      };
      setInterval(() => this.draw(), 1000);
      document.addEventListener('visibilitychange', () => {
        if (document.visibilityState === 'visible') {
          void again();
        }
      });
      void again('keep', 'POST');
    }
  }

  // --- JupyterLab --------------------------------------------------------------------------------------------------

  /** Put the bar above everything, with space of its own: as high as its text is, nothing if there is no notice. */
  function place(app, bar, Widget) {
    const widget = new Widget({ node: bar.node });
    widget.id = 'orchestra-seat-notices';
    let height = -1;
    bar.resized = () => {
      const wanted = bar.inner.offsetHeight;
      if (wanted !== height) {
        height = wanted;
        bar.node.style.minHeight = bar.node.style.maxHeight = `${wanted}px`;
        if (widget.parent) {
          widget.parent.fit();
        }
      }
    };
    try {
      app.shell.add(widget, 'header');
    } catch {
      app.shell.add(widget, 'top', { rank: 0 }); // Notebook 7 has no header
    }
    new ResizeObserver(() => bar.resized()).observe(bar.inner);
  }

  function addStyle() {
    const link = document.createElement('link');
    link.rel = 'stylesheet';
    link.href = new URL('notices.css', HERE).href;
    document.head.append(link);
  }

  const plugin = {
    id: `${NAME}:notices`,
    description: 'Says when the workshop ends and when an idle seat stops.',
    autoStart: true,
    activate: async app => {
      const { Widget } = await shared('@lumino/widgets');
      addStyle();
      const bar = new Bar(app.serviceManager.serverSettings);
      place(app, bar, Widget);
      bar.run();
    }
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: scope => {
      sharedModules = scope;
    },
    get: async () => () => ({ __esModule: true, default: plugin })
  };
})();
