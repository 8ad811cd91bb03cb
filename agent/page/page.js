// The live half of the status page: puts the sections that the agent sends into their places, counts ages,
// and searches while one types. Without it the page is the same, loaded again every ten seconds.
'use strict';

(() => {
  const live = document.getElementById('live');
  const said = document.getElementById('said');
  // What the agent's clock says, less what this browser's says, in milliseconds.
  let offset = 0;

  // ---- Ages ----------------------------------------------------------------------------------------

  const age = (seconds) => {
    const two = (number) => String(number).padStart(2, '0');
    if (seconds < 60) return `${seconds}s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)}h${two(Math.floor(seconds / 60) % 60)}m`;
    return `${Math.floor(seconds / 86400)}d${two(Math.floor(seconds / 3600) % 24)}h`;
  };

  const countAges = () => {
    const now = Date.now() + offset;
    for (const element of document.querySelectorAll('[data-since]')) {
      const seconds = Math.max(0, Math.floor((now - Date.parse(element.dataset.since)) / 1000));
      const text = `(${age(seconds)})`;
      if (element.textContent !== text) element.textContent = text;
    }
  };

  const setClock = (at) => {
    const moment = Date.parse(at);
    if (!Number.isNaN(moment)) offset = moment - Date.now();
  };

  // ---- Putting new content in the place of old, and leaving what is the same ------------------------

  // Makes `old` like `fresh` with as few changes as there are, so that focus, selection, what is open and
  // where it is scrolled to stay.
  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What the reader has opened stays open.
      const readers = name === 'open' && old.nodeName === 'DETAILS';
      if (!fresh.hasAttribute(name) && !readers) old.removeAttribute(name);
    }
    // An age is counted here.
    if (old.hasAttribute('data-since')) return;
    morphChildren(old, fresh);
  };

  const morphChildren = (old, fresh) => {
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = child.id ? known.get(child.id) : undefined;
      if (same) {
        if (same === place) place = place.nextSibling;
        else old.insertBefore(same, place);
        morph(same, child);
      } else if (place && !place.id && !child.id) {
        const next = place.nextSibling;
        morph(place, child);
        place = next;
      } else {
        old.insertBefore(child, place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  };

  const parse = (html) => {
    const template = document.createElement('template');
    template.innerHTML = html;
    return template.content;
  };

  // Runs what changes the page, and gives the focus back where it was: to the element of the same id, or, if
  // that is gone, to the section that it was in.
  const keepingFocus = (change) => {
    const active = document.activeElement;
    const id = active && active.id;
    const section = active && active.closest('section[id]');
    change();
    if (!active || active === document.body || document.activeElement === active) return;
    const again = (id && document.getElementById(id)) || (section && document.getElementById(section.id));
    if (again) again.focus({ preventScroll: true });
  };

  // ---- What is live ----------------------------------------------------------------------------------

  const alarms = () => new Map([...document.querySelectorAll('#alarms li')]
    .map((row) => [row.id, row.querySelector('.what').textContent]));

  // Says what is new to who does not see it: three alarms at most, as a storm is better told by its number.
  const announce = (before, after, roles) => {
    const added = [...after].filter(([id]) => !before.has(id)).map(([, text]) => text);
    const gone = [...before.keys()].filter((id) => !after.has(id)).length;
    const parts = added.slice(0, 3).map((text) => `New alarm: ${text}.`);
    if (added.length > 3) parts.push(`And ${added.length - 3} more.`);
    if (gone) parts.push(gone === 1 ? 'One alarm was cleared.' : `${gone} alarms were cleared.`);
    if (roles) parts.push(`Pair: ${roles}.`);
    if (parts.length) said.textContent = parts.join(' ');
  };

  const roles = () => document.getElementById('pair-roles')?.textContent;

  const show = ({ at, version, sections }) => {
    if (version !== document.body.dataset.version) {
      // Another version of the agent has another page.
      location.reload();
      return;
    }
    setClock(at);
    const [before, rolesBefore] = [alarms(), roles()];
    keepingFocus(() => {
      for (const [id, html] of sections) {
        const old = document.getElementById(id);
        const fresh = parse(html).firstElementChild;
        if (old && fresh) morph(old, fresh);
      }
    });
    announce(before, alarms(), roles() === rolesBefore ? undefined : roles());
    const verdict = document.getElementById('verdict').textContent;
    const title = `${verdict} - ${document.body.dataset.name}`;
    if (document.title !== title) document.title = title;
    countAges();
  };

  const say = (text, off) => {
    live.hidden = false;
    live.classList.toggle('is-off', off);
    if (live.textContent !== text) live.textContent = text;
  };

  const connect = () => {
    const source = new EventSource('page/live');
    source.onmessage = (message) => {
      say('live', false);
      show(JSON.parse(message.data));
    };
    source.onerror = () => {
      say('not connected: this is of an earlier moment', true);
      // The browser tries again by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
    };
    window.addEventListener('pagehide', () => source.close(), { once: true });
  };

  // A page that the browser had kept is as old as it is, and its connection is gone.
  window.addEventListener('pageshow', (event) => { if (event.persisted) connect(); });

  // ---- The search ------------------------------------------------------------------------------------

  const search = () => {
    const form = document.getElementById('search');
    const found = document.getElementById('found');
    if (!form || !found) return;
    let asked = 0;
    let waiting;
    const ask = async () => {
      clearTimeout(waiting);
      const mine = ++asked;
      const query = new URLSearchParams(new FormData(form)).toString();
      try {
        const answer = await fetch(`page/peers?${query}`);
        const html = await answer.text();
        // What was typed since has been asked, too, and only the last answer counts.
        if (mine !== asked) return;
        const markup = (answer.headers.get('content-type') || '').startsWith('text/html');
        const fresh = document.createElement('div');
        if (markup) fresh.append(parse(html));
        else fresh.textContent = 'The agent does not answer.';
        keepingFocus(() => morphChildren(found, fresh));
      } catch {
        if (mine === asked) found.textContent = 'The agent cannot be reached.';
      }
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      ask();
    });
    form.addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(ask, 150);
    });
  };

  const start = document.querySelector('#when time');
  if (start) setClock(start.dateTime);
  countAges();
  setInterval(countAges, 1000);
  search();
  connect();
})();
