(** Calculus for every step: inner products, gradients of functions on rows, rules for differentials, and what a
    derivative at 0 says for all small [eps > 0].

    [is_diff x F L] says that the linear map L is the differential of F at x. The rules are restated here for
    functions written out ([fun v => F v + G v]) so that a differential can be computed and then put in the form
    one wants by [is_diff_ext]. *)

From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp.classical Require Import boolp classical_sets functions mathcomp_extra.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

(** ** The inner product of rows *)
Section Dot.
Context {R : realType}.
Implicit Types n m : nat.

Lemma dotC n (u v : 'rV[R]_n) : dot u v = dot v u.
Proof. by apply: eq_bigr => i _; rewrite mulrC. Qed.

Lemma dotDl n (u v x : 'rV[R]_n) : dot (u + v) x = dot u x + dot v x.
Proof. by rewrite -big_split; apply: eq_bigr => i _; rewrite mxE mulrDl. Qed.

Lemma dotZl n c (u x : 'rV[R]_n) : dot (c *: u) x = c * dot u x.
Proof. by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE mulrA. Qed.

Lemma dotNl n (u x : 'rV[R]_n) : dot (- u) x = - dot u x.
Proof. by rewrite -scaleN1r dotZl mulN1r. Qed.

Lemma dotBl n (u v x : 'rV[R]_n) : dot (u - v) x = dot u x - dot v x.
Proof. by rewrite dotDl dotNl. Qed.

Lemma dot0l n (x : 'rV[R]_n) : dot 0 x = 0.
Proof. by rewrite -(scale0r x) dotZl mul0r. Qed.

Lemma dotDr n (u v x : 'rV[R]_n) : dot x (u + v) = dot x u + dot x v.
Proof. by rewrite dotC dotDl !(dotC x). Qed.

Lemma dotZr n c (u x : 'rV[R]_n) : dot x (c *: u) = c * dot x u.
Proof. by rewrite dotC dotZl !(dotC x). Qed.

Lemma dotNr n (u x : 'rV[R]_n) : dot x (- u) = - dot x u.
Proof. by rewrite dotC dotNl !(dotC x). Qed.

Lemma dotBr n (u v x : 'rV[R]_n) : dot x (u - v) = dot x u - dot x v.
Proof. by rewrite dotDr dotNr. Qed.

Lemma dot0r n (x : 'rV[R]_n) : dot x 0 = 0.
Proof. by rewrite dotC dot0l. Qed.

Lemma dot_suml n (I : Type) (r : seq I) (F : I -> 'rV[R]_n) x :
  dot (\sum_(i <- r) F i) x = \sum_(i <- r) dot (F i) x.
Proof. by elim/big_rec2: _ => [|i y z _ <-]; rewrite ?dot0l ?dotDl. Qed.

Lemma dot_sumr n (I : Type) (r : seq I) (F : I -> 'rV[R]_n) x :
  dot x (\sum_(i <- r) F i) = \sum_(i <- r) dot x (F i).
Proof. by rewrite dotC dot_suml; under eq_bigr do rewrite dotC. Qed.

Lemma dotvv_ge0 n (u : 'rV[R]_n) : 0 <= dot u u.
Proof. by apply: sumr_ge0 => i _; rewrite -expr2 sqr_ge0. Qed.

Lemma dotvv_eq0 n (u : 'rV[R]_n) : dot u u = 0 -> u = 0.
Proof.
move=> /eqP; rewrite psumr_eq0 => [|i _]; last by rewrite -expr2 sqr_ge0.
move=> /allP u0; apply/rowP => i; rewrite mxE.
by have /(_ i (mem_index_enum i)) := u0; rewrite mulf_eq0 orbb => /eqP.
Qed.

Lemma dotvv_gt0 n (u : 'rV[R]_n) : u != 0 -> 0 < dot u u.
Proof.
rewrite lt0r dotvv_ge0 andbT; apply: contraNN => /eqP uu0; exact/eqP/dotvv_eq0.
Qed.

Lemma dot_delta n (u : 'rV[R]_n) i : dot u (delta_mx 0 i) = u 0 i.
Proof.
rewrite /dot (bigD1 i)//= big1 => [|j /negPf ji]; first by rewrite !mxE !eqxx mulr1 addr0.
by rewrite !mxE ji andbF mulr0.
Qed.

(** A row is known by its inner products. *)
Lemma dot_inj n (u v : 'rV[R]_n) : dot u =1 dot v -> u = v.
Proof. by move=> uv; apply/rowP => i; rewrite -!dot_delta. Qed.

Lemma dot_mul n m (u : 'rV[R]_n) (B : 'M[R]_(n, m)) (v : 'rV[R]_m) : dot (u *m B) v = dot u (v *m B^T).
Proof.
rewrite /dot; under eq_bigr do rewrite mxE mulr_suml.
rewrite exchange_big; apply: eq_bigr => i _ /=.
by rewrite mxE mulr_sumr; apply: eq_bigr => j _; rewrite !mxE mulrAC mulrA.
Qed.

Lemma mul_diag n (u d : 'rV[R]_n) i : (u *m diag_mx d) 0 i = u 0 i * d 0 i.
Proof. by rewrite mul_mx_diag mxE. Qed.

(** The norm of MathComp-Analysis on rows is the largest absolute value of an entry. *)
Lemma norm_coord n (u : 'rV[R]_n.+1) i : `|u 0 i| <= `|u|.
Proof.
rewrite [X in _ <= X]/Num.Def.normr/= mx_normrE.
by apply/bigmax_geP; right; exists (0, i).
Qed.

Lemma norm_le n (u : 'rV[R]_n.+1) c : 0 <= c -> (forall i, `|u 0 i| <= c) -> `|u| <= c.
Proof.
move=> c0 uc; rewrite [X in X <= _]/Num.Def.normr/= mx_normrE; apply/bigmax_leP; split=> // -[j i] _.
by rewrite /= ord1.
Qed.

Lemma norm_dot n (u v : 'rV[R]_n.+1) : `|dot u v| <= n.+1%:R * `|u| * `|v|.
Proof.
rewrite (le_trans (ler_norm_sum _ _ _))// -mulrA mulr_natl.
rewrite -[n.+1 in X in _ <= X]card_ord -sumr_const; apply: ler_sum => i _.
by rewrite normrM ler_pmul// norm_coord.
Qed.

Lemma norm_mulmx n m (B : 'M[R]_(n.+1, m.+1)) :
  exists2 K, 0 <= K & forall u : 'rV[R]_n.+1, `|u *m B| <= K * `|u|.
Proof.
exists (\sum_j n.+1%:R * `|row j B^T|) => [|u]; first by apply: sumr_ge0 => j _; rewrite mulr_ge0.
have dotE j : (u *m B) 0 j = dot u (row j B^T) by rewrite mxE; apply: eq_bigr => i _; rewrite !mxE.
apply: norm_le => [|j]; first by rewrite mulr_ge0// sumr_ge0// => j _; rewrite mulr_ge0.
rewrite dotE (le_trans (norm_dot _ _))// mulrAC ler_wpmul2r// (bigD1 j)//= ler_addl.
by apply: sumr_ge0 => i _; rewrite mulr_ge0.
Qed.

End Dot.

(** ** Differentials *)
Section DiffRules.
Context {R : realType}.
Implicit Types U V W : normedModType R.


Lemma is_diff_ext V W (F G dF dG : V -> W) (x : V) :
  is_diff x F dF -> F =1 G -> dF =1 dG -> is_diff x G dG.
Proof. by move=> d /funext <- /funext <-. Qed.

Lemma is_diff_o U V W (F dF : U -> V) (G dG : V -> W) (x : U) :
  is_diff x F dF -> is_diff (F x) G dG -> is_diff x (fun v => G (F v)) (fun v => dG (dF v)).
Proof. by move=> dFx dGx; exact: is_diff_comp. Qed.

(** The same where [F x] is known to be y. *)
Lemma is_diff_at U V W (F dF : U -> V) (G dG : V -> W) (x : U) (y : V) :
  is_diff x F dF -> F x = y -> is_diff y G dG -> is_diff x (fun v => G (F v)) (fun v => dG (dF v)).
Proof. by move=> dFx <-; exact: is_diff_o. Qed.

Lemma is_diff_add V W (F G dF dG : V -> W) (x : V) :
  is_diff x F dF -> is_diff x G dG -> is_diff x (fun v => F v + G v) (fun v => dF v + dG v).
Proof. by move=> dFx dGx; exact: is_diffD. Qed.

Lemma is_diff_opp V W (F dF : V -> W) (x : V) :
  is_diff x F dF -> is_diff x (fun v => - F v) (fun v => - dF v).
Proof. by move=> dFx; exact: is_diffN. Qed.

Lemma is_diff_scale V W (c : R) (F dF : V -> W) (x : V) :
  is_diff x F dF -> is_diff x (fun v => c *: F v) (fun v => c *: dF v).
Proof. by move=> dFx; exact: is_diffZ. Qed.

Lemma is_diff_const V W (c : W) (x : V) : is_diff x (fun=> c) (fun=> 0).
Proof. exact: is_diff_cst. Qed.

Lemma is_diff_fst V W (x : V * W) : is_diff x fst fst.
Proof.
have fc : continuous (fst : V * W -> V) by move=> y; exact: cvg_fst.
have @f : {linear (V * W)%type -> V} by exists fst; eexists.
by apply: DiffDef; [exact: (@linear_differentiable _ _ _ f)|exact: (@diff_lin _ _ _ f)].
Qed.

Lemma is_diff_snd V W (x : V * W) : is_diff x snd snd.
Proof.
have fc : continuous (snd : V * W -> W) by move=> y; exact: cvg_snd.
have @f : {linear (V * W)%type -> W} by exists snd; eexists.
by apply: DiffDef; [exact: (@linear_differentiable _ _ _ f)|exact: (@diff_lin _ _ _ f)].
Qed.

Lemma is_diff_mul V (F G dF dG : V -> R) (x : V) :
  is_diff x F dF -> is_diff x G dG -> is_diff x (fun v => F v * G v) (fun v => F x * dG v + G x * dF v).
Proof. by move=> dFx dGx; exact: is_diffM. Qed.

Lemma is_diff_mull V (c : R) (F dF : V -> R) (x : V) :
  is_diff x F dF -> is_diff x (fun v => c * F v) (fun v => c * dF v).
Proof. exact: (@is_diffZ _ V [normedModType R of R^o]). Qed.

Lemma is_diff_Zl V W (k dk : V -> R) (x : V) (c : W) :
  is_diff x k dk -> is_diff x (fun v => k v *: c) (fun v => dk v *: c).
Proof. by move=> kd; apply: DiffDef; [exact: differentiableZl|rewrite diffZl// diff_val]. Qed.

Lemma is_diff_big V W (I : Type) (r : seq I) (F dF : I -> V -> W) (x : V) :
  (forall i, is_diff x (F i) (dF i)) ->
  is_diff x (fun v => \sum_(i <- r) F i v) (fun v => \sum_(i <- r) dF i v).
Proof.
move=> dFi; elim: r => [|i r IH].
  under eq_fun do rewrite big_nil.
  by under [X in is_diff _ _ X]eq_fun do rewrite big_nil; exact: is_diff_cst.
under eq_fun do rewrite big_cons.
under [X in is_diff _ _ X]eq_fun do rewrite big_cons.
exact: is_diffD.
Qed.

(** The mean value theorem on [0, t]. *)
Lemma mean_value (phi dphi : R -> R) (t : R) : 0 < t ->
  (forall s, 0 <= s -> s <= t -> is_derive s (1 : R) phi (dphi s)) ->
  exists s, [/\ 0 < s, s < t & phi t - phi 0 = dphi s * t].
Proof.
move=> t0 dphiE.
have [||s] := @MVT _ phi dphi _ _ t0; last by rewrite in_itv/= subr0 => /andP[]; exists s.
  by move=> x; rewrite in_itv/= => /andP[x0 xt]; apply: dphiE; exact: ltW.
apply: continuous_in_subspaceT => x; rewrite inE/= in_itv/= => /andP[x0 xt].
by apply/differentiable_continuous/derivable1_diffP; case: (dphiE x x0 xt).
Qed.

(** A function of one real variable: its differential is the multiple by its derivative. *)
Lemma is_diff_real (F : R -> R) (x dF : R) : is_derive x (1 : R) F dF -> is_diff x F (fun h => h * dF).
Proof.
move=> [/derivable1_diffP dF0 <-]; apply: DiffDef => //; apply/funext => h.
by rewrite deriveE// -[in LHS](mulr1 h) linearZ.
Qed.

Lemma is_diff_is_derive (F : R -> R) (x dF : R) : is_diff x F (fun h => h * dF) -> is_derive x (1 : R) F dF.
Proof.
move=> Fx; have Fd : derivable F x 1 by apply/derivable1_diffP; exact: ex_diff.
by apply: DeriveDef => //; rewrite deriveE ?diff_val ?mul1r//; exact: ex_diff.
Qed.

(** A derivative known from a quadratic bound on the remainder. *)
Lemma is_derive_bound (F : R -> R) (x A K : R) :
  (forall h, `|F (x + h) - F x - h * A| <= K * h ^+ 2) -> is_derive x (1 : R) F A.
Proof.
move=> bound; have K1 : 0 < `|K| + 1 by rewrite ltr_paddl.
suff lim : (fun h => h^-1 *: ((F \o shift x) (h *: (1 : R)) - F x)) @ (0 : R)^' --> A.
  by apply: DeriveDef; [exact: cvgP lim|exact: cvg_lim lim].
apply/cvgrPdist_le => e e0; near=> h.
have h0 : h != 0 by near: h; apply/nbhs_ballP; exists 1 => /=.
have he : `|h| <= e / (`|K| + 1) by near: h; apply: dnbhs0_le; exact: divr_gt0.
rewrite distrC /= [h *: _]mulr1 addrC.
have -> : - A + h^-1 *: (F (h + x) - F x) = h^-1 * (F (x + h) - F x - h * A).
  rewrite [h + x]addrC; move: (F (x + h)) (F x) => b a; rewrite /GRing.scale/=.
  by field.
rewrite normrM normfV mulrC ler_pdivr_mulr ?normr_gt0// (le_trans (bound h))//.
rewrite -real_normK ?num_real// expr2 mulrA ler_wpmul2r//.
rewrite ler_pdivl_mulr// in he; apply: le_trans he; rewrite mulrC ler_wpmul2l//.
by rewrite (le_trans (ler_norm _))// ler_addl.
Unshelve. all: by end_near. Qed.

Lemma is_diff_coord n (a : 'rV[R]_n.+1) i :
  is_diff a (fun v : 'rV[R]_n.+1 => v 0 i : R) (fun v => v 0 i).
Proof.
have @f : {linear 'rV[R]_n.+1 -> R}.
  by exists (fun v : 'rV[R]_n.+1 => v 0 i); eexists; move=> ? ?; rewrite !mxE.
have fc : continuous f by exact: coord_continuous.
by apply: DiffDef; [exact: (linear_differentiable _ fc)|exact: (diff_lin _ fc)].
Qed.

Lemma is_diff_row n V (F dF : V -> 'rV[R]_n.+1) (x : V) :
  (forall i, is_diff x (fun v => F v 0 i) (fun v => dF v 0 i)) -> is_diff x F dF.
Proof.
move=> Fi; have h := is_diff_big (index_enum [finType of 'I_n.+1])
  (fun i => @is_diff_Zl _ _ _ _ _ (delta_mx 0 i : 'rV[R]_n.+1) (Fi i)).
by apply: (is_diff_ext h) => v; rewrite [RHS]row_sum_delta.
Qed.

Lemma is_diff_mulmxr n m (B : 'M[R]_(n.+1, m.+1)) (a : 'rV[R]_n.+1) : is_diff a (mulmx^~ B) (mulmx^~ B).
Proof.
have h := is_diff_big (index_enum [finType of 'I_n.+1])
  (fun i => is_diff_Zl (row i B) (is_diff_coord a i)).
by apply: (is_diff_ext h) => v; rewrite mulmx_sum_row.
Qed.

Lemma is_diff_dotl n (u a : 'rV[R]_n.+1) : is_diff a (fun v => dot v u) (fun v => dot v u).
Proof.
have h i : is_diff a (fun v : 'rV[R]_n.+1 => v 0 i * u 0 i : R) (fun v => v 0 i * u 0 i).
  exact: (is_diff_Zl (u 0 i : [normedModType R of R^o]) (is_diff_coord a i)).
exact: (is_diff_big (index_enum [finType of 'I_n.+1]) h).
Qed.

(** The straight line through a in the direction v. *)
Lemma is_diff_line V (a v : V) (t : R) : is_diff t (fun t => a + t *: v) (fun h => h *: v).
Proof.
apply: (is_diff_ext (is_diff_add (is_diff_const a t) (is_diff_scalel t v))) => // h.
by rewrite /= add0r.
Qed.

(** The differential is a linear map; on rows it is the product with the Jacobian matrix. *)
Lemma is_diff_jacobian n m (F : 'rV[R]_n.+1 -> 'rV[R]_m.+1) a :
  differentiable F a -> is_diff a F (mulmx^~ (jacobian F a)).
Proof. by move=> dF; apply: DiffDef => //; apply/funext => v; rewrite mul_rV_lin1. Qed.

Lemma jacobian_is_diff n m (F : 'rV[R]_n.+1 -> 'rV[R]_m.+1) a B :
  is_diff a F (mulmx^~ B) -> jacobian F a = B.
Proof. by move=> dF; apply/row_matrixP => i; rewrite !rowE mul_rV_lin1 diff_val. Qed.

End DiffRules.

Fact remainderE (V : zmodType) (b d o : V) : b + d + o - b - d = o.
Proof. by rewrite -addrA -opprD [X in X - _]addrC addrK. Qed.

(** ** The gradient *)
Section Gradient.
Context {R : realType} {p : nat}.
Implicit Types (F : 'rV[R]_p.+1 -> R) (a v : 'rV[R]_p.+1).

Lemma diff_grad F a v : 'd F a v = dot (grad F a) v.
Proof.
rewrite [in LHS](row_sum_delta v) linear_sum; apply: eq_bigr => i _.
by rewrite linearZ /= /grad mxE mulrC.
Qed.

Lemma is_diff_grad F a (g : 'rV[R]_p.+1) : is_diff a F (dot g) -> grad F a = g.
Proof. by move=> dF; apply: dot_inj => v; rewrite -diff_grad diff_val. Qed.

Lemma grad_diff F a : differentiable F a -> is_diff a F (dot (grad F a)).
Proof. by move=> dF; apply: DiffDef => //; apply/funext => v; rewrite diff_grad. Qed.

(** The derivative along a line. *)
Lemma is_derive_line F a v (t : R) : differentiable F (a + t *: v) ->
  is_derive t (1 : R) (fun t => F (a + t *: v)) (dot (grad F (a + t *: v)) v).
Proof.
move=> dF; apply: is_diff_is_derive.
apply: (is_diff_ext (is_diff_o (is_diff_line a v t) (grad_diff dF))) => // h.
by rewrite dotZr.
Qed.

(** The mean value theorem along a segment. *)
Lemma mean_value_segment F a v : (forall t, 0 <= t -> t <= 1 -> differentiable F (a + t *: v)) ->
  exists2 t, 0 < t < 1 & F (a + v) - F a = dot (grad F (a + t *: v)) v.
Proof.
move=> dF; have [t [t0 t1 Ft]] := mean_value ltr01 (fun t t0 t1 => is_derive_line (dF t t0 t1)).
by exists t; [rewrite t0|move: Ft; rewrite scale1r scale0r addr0 mulr1].
Qed.

(** The first-order expansion, in the form of a two-sided bound. *)
Lemma taylor_row_abs F a (c : R) : differentiable F a -> 0 < c ->
  exists2 e : R, 0 < e & forall u, `|u| < e -> `|F (a + u) - F a - dot (grad F a) u| <= c * `|u|.
Proof.
move=> dF c0; have FE := diff_locallyxC dF.
have : \forall u \near (0 : 'rV[R]_p.+1), `|F (a + u) - F a - dot (grad F a) u| <= c * `|u|.
  near=> u; rewrite FE -diff_grad; set o := (X in _ + X - _ - _).
  have : `|o| <= c * `|u| by rewrite {}/o; near: u; apply: littleoP.
  by rewrite remainderE.
move=> /nbhs_ballP[e /= e0 He]; exists e => // u ue; apply: He.
by rewrite -ball_normE /ball_/= sub0r normrN.
Unshelve. all: by end_near. Qed.

Lemma taylor_row F a (c : R) : differentiable F a -> 0 < c ->
  exists2 e : R, 0 < e & forall u, `|u| < e -> F (a + u) - F a - dot (grad F a) u <= c * `|u|.
Proof.
move=> dF c0; have [e e0 He] := taylor_row_abs dF c0; exists e => // u ue.
exact: le_trans (ler_norm _) (He u ue).
Qed.

End Gradient.

(** From here on a failing unification must not unfold these. *)
#[global] Typeclasses Opaque grad.
Global Opaque grad.

(** ** "For all sufficiently small eps > 0" *)
Section Small.
Context {R : realType}.
Implicit Types P Q : R -> Prop.

Lemma small_epsW P Q : (forall eps, 0 < eps -> P eps -> Q eps) -> small_eps P -> small_eps Q.
Proof. by move=> PQ [e0 e00 He]; exists e0 => // eps eps0 epse; exact/PQ/He. Qed.

Lemma small_epsI P Q : small_eps P -> small_eps Q -> small_eps (fun eps => P eps /\ Q eps).
Proof.
move=> [e1 e10 H1] [e2 e20 H2]; exists (Order.min e1 e2); first by rewrite lt_minr e10.
by move=> eps eps0; rewrite lt_minr => /andP[? ?]; split; [exact: H1|exact: H2].
Qed.

Lemma small_eps_lt (e : R) : 0 < e -> small_eps (fun eps => eps < e).
Proof. by move=> e0; exists e. Qed.

Lemma small_eps_near P : small_eps P <-> \forall e \near 0^'+, P e.
Proof.
split=> [[e0 e00 He]|].
  apply/nbhs_ballP; exists e0 => //= e; rewrite /ball/= sub0r normrN => ee0 e_gt0.
  by apply: He => //; rewrite (le_lt_trans (ler_norm _)).
move=> /nbhs_ballP[e0 /= e00 He]; exists e0 => // e e_gt0 ee0.
by apply: He => //=; rewrite /ball/= sub0r normrN gtr0_norm.
Qed.

(** The first-order expansion of a function of eps to the right of 0. *)
Lemma small_eps_taylor (phi : R -> R) (A c : R) : is_diff (0 : R) phi (fun h => h * A) -> 0 < c ->
  small_eps (fun e => `|phi e - phi 0 - e * A| <= c * e).
Proof.
move=> dphi c0; have /diff_locallyx := @ex_diff _ _ _ _ _ _ _ dphi.
rewrite diff_val => phiE; apply/small_eps_near; rewrite near_withinE.
near=> h => h0; rewrite -[h in phi h]addr0 phiE.
set o := (X in _ + X - _ - _); have : `|o| <= c * `|h|.
  by rewrite {}/o; near: h; apply: littleoP.
by rewrite (gtr0_norm h0) remainderE.
Unshelve. all: by end_near. Qed.

(** A function with a negative derivative at 0 lies below its value there, just to the right. *)
Lemma small_eps_decrease (phi : R -> R) (A : R) :
  is_diff (0 : R) phi (fun h => h * A) -> A < 0 -> small_eps (fun e => phi e < phi 0).
Proof.
move=> dphi A0; have A20 : 0 < - A / 2%:R by rewrite divr_gt0// oppr_gt0.
apply: small_epsW (small_eps_taylor dphi A20) => e e0 He.
have H := le_trans (ler_norm _) He; rewrite ler_subl_addr in H.
rewrite -subr_lt0; apply: (le_lt_trans H).
rewrite (_ : _ + _ = e * (A / 2%:R)); last by field.
by rewrite pmulr_rlt0// pmulr_llt0 ?invr_gt0.
Qed.

End Small.

(** ** Limits of sums *)
Lemma cvg_sum (R : realType) (V : normedModType R) (T I : Type) (F : set (set T)) {FF : Filter F}
  (r : seq I) (h : I -> T -> V) (a : I -> V) :
  (forall i, h i @ F --> a i) -> (fun t => \sum_(i <- r) h i t) @ F --> \sum_(i <- r) a i.
Proof.
move=> ha; elim: r => [|i r IH]; first by rewrite big_nil; under eq_fun do rewrite big_nil; exact: cvg_cst.
by rewrite big_cons; under eq_fun do rewrite big_cons; exact: cvgD.
Qed.
