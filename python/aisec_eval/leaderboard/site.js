"use strict";
// One track at a time, chosen by a list; the choice is in the address. Writes text, never markup.
(() => {
  const tracks = [...document.querySelectorAll("section.track")];
  if (tracks.length < 2) return;

  const label = document.createElement("label");
  label.textContent = "Threat model ";
  const list = document.createElement("select");
  for (const track of tracks) list.append(new Option(track.dataset.title, track.id));
  list.append(new Option("all", ""));
  label.append(list);
  document.getElementById("tracks").append(label);

  const show = (id) => {
    list.value = id;
    for (const track of tracks) track.hidden = id !== "" && track.id !== id;
  };
  const chosen = () => {
    const id = location.hash.slice(1);
    if (id === "all") return "";
    return tracks.some((track) => track.id === id) ? id : tracks[0].id;
  };
  list.addEventListener("change", () => {
    history.replaceState(null, "", `#${list.value || "all"}`);
    show(list.value);
  });
  addEventListener("hashchange", () => show(chosen()));
  addEventListener("beforeprint", () => show(""));
  addEventListener("afterprint", () => show(chosen()));
  show(chosen());
})();
